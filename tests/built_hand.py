"""Builds the hand that is rendered, which every process that is forked afterwards then has."""

from contextlib import suppress

from cliphand.data.synthetic.rigged_hand import build_rigged_hand
from cliphand.errors import InputError

with suppress(InputError):  # the extra 'synthetic' is not installed
    build_rigged_hand()
