"""The header of an exported policy in C: what a program that steps it sees."""

from __future__ import annotations

from collections.abc import Iterator

from recurrent_rl.agents.export.c.names import given_names, kept_as, struct_fields
from recurrent_rl.agents.export.c.text import comment, declared, member
from recurrent_rl.agents.export.listing import Listing


def prototype(listing: Listing, name: str) -> str:
    """Of the function that takes a step."""
    arguments = [f"{name}_state *state"]
    arguments += [f"const {declared(listing.inputs[one], one)}" for one in given_names(listing)]
    arguments.append(declared(listing.outputs["action"], "action"))
    return f"int {name}_step({', '.join(arguments)})"


def header(listing: Listing, name: str, stack_bytes: int) -> str:
    """The whole header.

    Args:
        listing: of one stream.
        name: before every public name in it.
        stack_bytes: that a step takes.
    """
    given, upper = given_names(listing), name.upper()
    lines = [
        f"/* {name}: a trained recurrent policy, written by recurrent-rl as C99.",
        " *",
        f" *     {name}_state s;",
        f" *     {name}_reset(&s);                         an episode starts",
        f" *     status = {name}_step(&s, {', '.join(given)}, action);",
        " *",
        " * One state for each stream. Nothing is allocated, and nothing global changes:",
        " * threads may step different states at the same time. Of arrays with several axes",
        " * the last is quickest.",
        f" * A step takes about {stack_bytes:,} bytes of the stack. */",
        f"#ifndef {upper}_H",
        f"#define {upper}_H",
        "",
        "#include <stdint.h>",
        "",
        "#ifdef __cplusplus",
        'extern "C" {',
        "#endif",
        "",
        "enum {",
        f"    {upper}_OK = 0,",
        f"    {upper}_NOT_FINITE = 1,      /* an input is NaN or infinite */",
        f"    {upper}_OUT_OF_RANGE = 2,    /* an index or bit is none of its space */",
        f"    {upper}_NOTHING_ALLOWED = 3  /* the mask forbids every action */",
        "};  /* In all cases but the first the state is as it was. */",
        "",
        *_struct(listing, name),
        "",
        f"void {name}_reset({name}_state *state);",
        "",
        *_meanings(listing),
        f"{prototype(listing, name)};",
        "",
        "#ifdef __cplusplus",
        "}",
        "#endif",
        "",
        "#endif",
        "",
    ]
    return "\n".join(lines)


def _struct(listing: Listing, name: str) -> Iterator[str]:
    """The type of a stream's state."""
    signature = listing.signature
    fields = {field.name: field for field in (*signature.inputs, *signature.outputs)}
    yield "typedef struct {"
    yield "    uint8_t episode_start;  /* the next observation starts an episode */"
    for before in signature.state:
        yield from member(listing.inputs[before], kept_as(before), fields[before])
    if shown := struct_fields(signature)[len(signature.state) :]:
        yield "    /* Of the last step: */"
    for one in shown:
        yield from member(listing.outputs[one], one, fields[one])
    yield f"}} {name}_state;"


def _meanings(listing: Listing) -> Iterator[str]:
    """A comment that says what a step takes and gives."""
    signature = listing.signature
    meanings = {field.name: field.meaning for field in (*signature.inputs, *signature.outputs)}
    yield "/* One step:"
    for given in given_names(listing):
        yield f" * {given}: {comment(meanings[given])}"
    yield f" * action: {comment(meanings['action'])} */"
