#!/usr/bin/env python3
"""Text from a prompt through libcarat.so and ctypes, nothing else: generate.c in Python.

    python3 generate.py gemma-3-270m-q4_k_m.gguf "The capital of France is" 16 0

The last two, which may be left out: how many tokens at most, and the temperature. The library is found as ctypes finds
any other, or where CARAT_LIBRARY says. The structures below repeat carat.h: all their fields, in its order.
"""
import ctypes as c
import ctypes.util
import os
import sys

AUTO = 0  # carat_prompt_form


class Error(c.Structure):
    _fields_ = [("code", c.c_int32), ("where", c.c_char * 64), ("text", c.c_char * 240)]


class Info(c.Structure):
    _fields_ = [(name, c.c_char_p) for name in "path format size backend isa".split()] + [
        (name, c.c_int32) for name in "threads layers dim heads kv_heads head_dim ffn vocab window context".split()] + [
        ("file_bytes", c.c_size_t), ("weight_bytes", c.c_size_t), ("decode_bytes", c.c_size_t),
        ("parameters", c.c_uint64), ("has_text", c.c_bool), ("has_turns", c.c_bool), ("text_max", c.c_size_t),
        ("n_warnings", c.c_int32), ("warnings", c.POINTER(c.c_char_p))]


class Sampling(c.Structure):
    _fields_ = [("size", c.c_uint32), ("temperature", c.c_double), ("top_k", c.c_int32), ("top_p", c.c_double),
                ("min_p", c.c_double), ("repeat_penalty", c.c_double), ("presence_penalty", c.c_double),
                ("frequency_penalty", c.c_double), ("seed", c.c_uint64), ("bias", c.c_void_p), ("n_bias", c.c_size_t)]


def load():
    """The library, its functions declared; those that return a status raise the library's sentence."""
    lib = c.CDLL(os.environ.get("CARAT_LIBRARY") or ctypes.util.find_library("carat") or "libcarat.so")
    model = session = c.c_void_p

    def declare(result, name, *parameters):
        function = getattr(lib, "carat_" + name)
        function.restype, function.argtypes = result, parameters
        return function

    def checked(name, *parameters):
        function = declare(c.c_int, name, *parameters, c.POINTER(Error))

        def call(*arguments):
            err = Error()
            if function(*arguments, c.byref(err)) != 0:
                raise RuntimeError(err.text.decode(errors="replace"))

        return call

    lib.open = checked("model_open", c.POINTER(model), c.c_char_p, c.c_void_p)
    lib.create = checked("session_create", c.POINTER(session), model, c.c_void_p)
    lib.prompt = checked("session_prompt", session, c.c_char_p, c.c_size_t, c.c_int, c.c_char_p)
    lib.next = checked("session_next", session, c.POINTER(Sampling), c.POINTER(c.c_int32))
    declare(None, "model_close", model)
    declare(None, "model_get_info", model, c.POINTER(Info))
    declare(None, "session_free", session)
    declare(Sampling, "sampling_default", model)
    declare(c.c_bool, "is_end", model, c.c_int32)
    declare(c.c_size_t, "session_text", session, c.c_int32, c.c_char_p, c.c_size_t)
    return lib


def generate(lib, path, prompt, limit, temperature):
    """Yields pieces of text, bytes of whole characters."""
    model, session, info, token = c.c_void_p(), c.c_void_p(), Info(), c.c_int32()
    try:
        lib.open(c.byref(model), path.encode(), None)
        lib.create(c.byref(session), model, None)
        how = lib.carat_sampling_default(model)
        how.temperature = how.temperature if temperature is None else temperature
        lib.carat_model_get_info(model, c.byref(info))
        text = c.create_string_buffer(info.text_max)

        def completed(by):  # what a token completes; text.raw is a copy, to be taken after the call
            size = lib.carat_session_text(session, by, text, info.text_max)
            return text.raw[:size]

        lib.prompt(session, prompt.encode(), len(prompt.encode()), AUTO, None)
        for _ in range(limit):
            lib.next(session, c.byref(how), c.byref(token))
            if lib.carat_is_end(model, token):
                break
            yield completed(token)
        yield completed(-1)
    finally:
        lib.carat_session_free(session)
        lib.carat_model_close(model)


def main(arguments):
    if len(arguments) < 2:
        print("usage: generate.py MODEL PROMPT [TOKENS [TEMPERATURE]]", file=sys.stderr)
        return 2
    try:
        limit = int(arguments[2]) if len(arguments) > 2 else 128
        temperature = float(arguments[3]) if len(arguments) > 3 else None
        for piece in generate(load(), arguments[0], arguments[1], limit, temperature):
            sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()
        print(flush=True)
    except (OSError, RuntimeError) as problem:
        print("generate.py: %s" % problem, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
