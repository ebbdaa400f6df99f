"""What is wrong with a value of settings or of the command line, in plain words."""

from __future__ import annotations

from typing import Any

WORDS = {  # types of pydantic's problems, and what a value must be
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be finite",
    "bool_type": "must be true or false",
    "string_type": "must be a text in quotes",
    "too_short": "must have at least {min_length}, and has {actual_length}",
    "too_long": "must have at most {max_length}, and has {actual_length}",
    "literal_error": "must be one of {expected}",
}


def in_plain_words(problem: Any) -> str:
    """What the value of a problem in pydantic's `errors()` must be, for example "must be at least 1"."""
    if words := WORDS.get(problem["type"]):
        return words.format(**problem.get("ctx", {}))
    message = str(problem["msg"]).removeprefix("Value error, ")
    return f"{message[:1].lower()}{message[1:]}"
