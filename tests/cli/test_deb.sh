#!/usr/bin/env bash
# The Debian packages, where `make deb` has made them: scripts/check_deb says what is asked of them.
exec scripts/check_deb "$(dirname "${CARAT_BUILD:-build/release}")/deb"
