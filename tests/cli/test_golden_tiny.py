#!/usr/bin/env python3
"""The golden test of the repository's own fixture: test_golden.py CARAT tiny, as a test of its own that needs no download."""

import sys

import test_golden

sys.argv[2:] = ["tiny"]
sys.exit(test_golden.main())
