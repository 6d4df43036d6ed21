"""Articles show what commands print: their blocks can be told anew from a run.

An article shows runs of lines, and `…` between them where it leaves some out. A run is taken anew from its first line to its last one, which are
found by their form: digits may have changed, and lines may have come in between.
"""

import re
import shlex

from harness import Failed


def retold(article, transcript, starts=()):
    """The article with the output of this run.

    `transcript` has pairs of the words that were typed and the lines that came. Blocks that begin with `$ `, or with one of `starts`, are told anew
    in their order; those without a command show what was typed before once more. What isn't found any more fails.
    """
    left = iter(transcript)
    parts = re.split(r"^(```(?:sh)?\n.*?^```\n)", article, flags=re.MULTILINE | re.DOTALL)
    return "".join(_block(part, left) if _is_told(part, starts) else part for part in parts)


def _is_told(part, starts):
    return part.startswith("```") and part.split("\n", 2)[1].startswith(("$ ", *starts))


def _block(text, left):
    fence, *lines, _, _ = re.sub(r" \\\n +", " ", text).split("\n")
    told = [fence]
    places = [number for number, line in enumerate(lines) if line.startswith("$ ")] or [-1]
    for start, end in zip(places, [*places[1:], len(lines)]):
        words, output = next(left)
        if start >= 0:
            if lines[start].split()[1:3] != words[:2]:
                raise Failed(f"the article has {lines[start]!r} where the story has {words}")
            told += _typed(words)
        told += _shown(lines[start + 1:end], output, words)
    return "\n".join([*told, "```", ""])


def _typed(words):
    """A command as it is typed, over several lines if it is long."""
    lines = ["$"]
    for word in words:
        word = word if word.startswith("$") else shlex.quote(word)
        if len(lines[-1]) + len(word) > 125:
            lines[-1] += " \\"
            lines.append("   ")
        lines[-1] += " " + word
    return lines


def _form(line):
    line = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{16,}|[0-9a-f]{8}(?=:)|\+?\d+(\.\d+)? (µs|ms|s|min)\b|\d+", "#", line)
    return re.sub(r"\s+", " ", line).strip()


def _shown(before, output, words):
    """The runs of lines that were shown before, as they are now."""
    told, at, run = [], 0, []
    forms = [_form(line) for line in output]
    for line in [*before, "…"]:
        if line != "…":
            run.append(line)
            continue
        if run:
            try:
                begin = at = forms.index(_form(run[0]), at)
                for _ in range(sum(_form(each) == _form(run[-1]) for each in run)):
                    at = forms.index(_form(run[-1]), at) + 1
            except ValueError:
                raise Failed(f"{words} doesn't print what the article begins or ends with: {run[0]!r} … {run[-1]!r}; it prints {output}") from None
            told += output[begin:at]
        told.append("…")
        run = []
    return told[:-1]
