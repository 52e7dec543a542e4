"""Carries out the requests of hub.client.ask: JSON on standard input, answers on standard output."""

import contextlib
import io
import json
import sys
import traceback


def _command(arguments: list[str]) -> dict[str, object]:
    from abench.cli import main

    sys.argv = ["abench", *arguments]
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as exit_:
            code = int(exit_.code or 0)
        except BaseException:
            code = 1
            traceback.print_exc()
    return {"code": code, "out": out.getvalue(), "err": err.getvalue()}


def _snippet(code: str) -> dict[str, object]:
    names: dict[str, object] = {}
    err = io.StringIO()
    with contextlib.redirect_stdout(err), contextlib.redirect_stderr(err):
        try:
            exec(code, names)
        except Exception as error:
            return {"error": f"{type(error).__name__}: {error}", "err": traceback.format_exc()}
    return {"answer": names.get("answer"), "err": err.getvalue()}


if __name__ == "__main__":
    answers = [_command(e) if isinstance(e, list) else _snippet(e) for e in json.load(sys.stdin)]
    json.dump(answers, sys.stdout)
