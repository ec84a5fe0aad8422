"""Tests of `adafocus`. `make test` runs them all."""
