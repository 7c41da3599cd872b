"""Builds the hand that is rendered, which every process that is forked afterwards then has."""

from contextlib import suppress

from cliphand.data.synthetic.hand_model import build_hand_model
from cliphand.errors import InputError

with suppress(InputError):  # the extra 'synthetic' is not installed
    build_hand_model()
