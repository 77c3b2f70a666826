"""A name with arguments, written as a call: ``"resnet18(pretrained=False)"``.

Examples:
    >>> parse_call("Generator(100, ngf=64, norm='batch')")
    ('Generator', (100,), {'ngf': 64, 'norm': 'batch'})
    >>> parse_call("resnet18.a1_in1k")
    ('resnet18.a1_in1k', (), {})

Arguments are literals (numbers, text, lists, dicts, True, None): nothing is evaluated.
"""

import ast
from typing import Any

from ..errors import SettingError


def parse_call(text: str) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
    """The name, positional and keyword arguments of ``"NAME"`` or ``"NAME(1, key='value')"``.

    Raises:
        SettingError: something else, or an argument that is not a literal.
    """
    name, bracket, rest = text.strip().partition("(")
    if not bracket:
        return name, (), {}
    try:
        call = ast.parse(f"f({rest}", mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or not name:
            raise ValueError("it is not one call")
        positional = tuple(ast.literal_eval(value) for value in call.args)
        named = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords if keyword.arg}
        if len(named) != len(call.keywords):
            raise ValueError("** is not allowed")
    except (SyntaxError, ValueError) as error:
        raise SettingError(
            f"{text!r} cannot be read: {error}. Write NAME or NAME(1, key='value'), with numbers, text, lists, "
            "dicts, True, False and None as arguments."
        ) from error
    return name, positional, named
