"""The one error a user can mend: the command line prints its sentence and exits with code 2."""


class InputError(Exception):
    """Bad input: the message is one sentence that says what was given, what is valid and what to do."""
