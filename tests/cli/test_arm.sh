#!/usr/bin/env bash
# The Arm kernels under an emulator: see scripts/check_arm, which skips (77) where its tools are missing.
exec "$(dirname "$0")/../../scripts/check_arm" "$1"
