"""One text for each description: what Python and C++ read in it is the same, or both refuse it."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sofie_rdf.ir.canonical import canonical, parsed

PROJECT = Path(__file__).resolve().parents[2]

_values = st.recursive(
    st.text() | st.integers(0, 10**18 - 1),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
DEEP = '{"a":' * 15 + "1" + "}" * 15

RIGHT = [
    "{}",
    '{"a":1}',
    '{"a":0}',
    '{"a":999999999999999999}',
    '{"a":"","b":[],"c":{},"d":[[1,"x"],{"y":2}]}',
    '{"a":"\\"\\\\\\n\\t\\r\\b\\f\\u0000\\u001f\\u007f\\u00e9\\ud83d\\ude00/"}',
    '{"\\ud800":1,"\\ue000":3,"\\ud83d\\ude00":2}',
    '{"\\ue000":3,"\\ud83d\\ude00":2}',
    '{"a":"\\ud800\\ud800\\udc00\\udc00"}',
    DEEP,
]
WRONG = {
    "key twice": '{"a":1,"a":1}',
    "key twice, escaped": '{"a":1,"\\u0061":2}',
    "key twice, deep": '{"a":[{"b":1,"b":1}]}',
    "order": '{"b":1,"a":1}',
    "blank": '{"a": 1}',
    "blank at the end": '{"a":1} ',
    "end of line": '{"a":1}\n',
    "blank at the beginning": ' {"a":1}',
    "byte order mark": '\ufeff{"a":1}',
    "trailing": '{"a":1}{}',
    "zero byte": '{"a":1}\0',
    "true": '{"a":true}',
    "null": '{"a":null}',
    "NaN": '{"a":NaN}',
    "infinity": '{"a":Infinity}',
    "fraction": '{"a":1.5}',
    "whole fraction": '{"a":1.0}',
    "power": '{"a":1e3}',
    "negative": '{"a":-1}',
    "minus zero": '{"a":-0}',
    "leading zero": '{"a":01}',
    "plus": '{"a":+1}',
    "large": '{"a":1000000000000000000}',
    "larger": '{"a":' + "9" * 5000 + "}",
    "other digits": '{"a":\u0661}',
    "escaped slash": '{"a":"\\/"}',
    "escaped letter": '{"a":"\\u0041"}',
    "escape of a known one": '{"a":"\\u000a"}',
    "escape of a quote": '{"a":"\\u0022"}',
    "large hexadecimal": '{"a":"\\u00E9"}',
    "short hexadecimal": '{"a":"\\u00e"}',
    "unknown escape": '{"a":"\\x41"}',
    "apostrophe": "{'a':1}",
    "not ASCII": '{"a":"\u00e9"}',
    "control character": '{"a":"\t"}',
    "open text": '{"a":"',
    "open escape": '{"a":"\\',
    "open object": '{"a":1',
    "comma": '{"a":1,}',
    "comma in a list": '{"a":[1,]}',
    "no comma": '{"a":[1 2]}',
    "no colon": '{"a"1}',
    "no value": '{"a":}',
    "number as a key": "{1:1}",
    "comment": '{"a":1/**/}',
    "list": "[1]",
    "text": '"a"',
    "number": "1",
    "nothing": "",
    "too deep": '{"a":' * 16 + "1" + "}" * 16,
    "very deep": '{"a":' + "[" * 100_000,
}


@pytest.mark.parametrize("text", RIGHT)
def test_there_is_one_text_for_a_document(text: str) -> None:
    assert parsed(text) == json.loads(text)


@pytest.mark.parametrize("kind", WRONG)
def test_no_other_text_is_a_description(kind: str) -> None:
    assert parsed(WRONG[kind]) is None


@pytest.mark.exhaustive
@given(st.dictionaries(st.text(), _values))
def test_what_is_written_is_read(document: dict[str, Any]) -> None:
    assert parsed(canonical(document)) == document


PROGRAM = """
#include "sofie/rdf/json.hxx"
#include <iostream>

// Canonical text, as Python writes it, of what was read.
static void text(std::string &out, const std::string &value)
{
   out += '"';
   for (const char c : value)
      (out += "0123456789abcdef"[static_cast<unsigned char>(c) >> 4]) += "0123456789abcdef"[c & 15];
   out += '"';
}
static void write(std::string &out, const sofie::Json &value)
{
   if (!value.keys().empty()) {
      for (std::size_t i = 0; i < value.keys().size(); ++i) {
         text(out, value.keys()[i]);
         out += ':';
         write(out, value.items()[i]);
      }
      return;
   }
   if (!value.items().empty()) {
      out += '[';
      for (const sofie::Json &item : value.items())
         write(out, item);
      return;
   }
   try {
      out += std::to_string(value.size());
   } catch (const std::runtime_error &) {
      try {
         text(out, value.text());
      } catch (const std::runtime_error &) {
         out += "-";
      }
   }
}
int main()
{
   // Each text has its length in front of it.
   for (std::size_t length; std::cin >> length;) {
      std::cin.get();
      std::string bytes(length, ' ');
      std::cin.read(&bytes[0], static_cast<std::streamsize>(length));
      std::string out;
      try {
         write(out, sofie::Json(bytes));
      } catch (const std::runtime_error &) {
         out = "no";
      }
      std::cout << out << '\\n';
   }
}
"""


def seen(value: Any) -> str:
    """What the program prints of a value."""
    if isinstance(value, str):
        return f'"{value.encode("utf-8", "surrogatepass").hex()}"'
    if isinstance(value, dict) and value:
        return "".join(f"{seen(k)}:{seen(v)}" for k, v in value.items())
    if isinstance(value, list) and value:
        return "[" + "".join(map(seen, value))
    return "-" if isinstance(value, dict | list) else str(value)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("g++") is None:
        pytest.skip("there is no g++")
    folder = tmp_path_factory.mktemp("json")
    (folder / "json.cxx").write_text(PROGRAM)
    command = ["g++", "-std=c++17", "-g", "-O1", "-Wall", "-Wextra", "-Werror"]
    command += ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    command += [f"-I{PROJECT / 'cling'}", "json.cxx", "-o", "json"]
    subprocess.run(command, cwd=folder, check=True)
    return folder / "json"


def mutants(number: int) -> list[str]:
    """Descriptions with something changed."""
    dice = random.Random(3)
    pieces = ['"', "\\", "\\u00", "d83d", "\\ude00", *"{}[],:01a-"]
    found = []
    for _ in range(number):
        text = dice.choice(RIGHT[1:])
        for _ in range(dice.randint(1, 3)):
            at = dice.randrange(len(text) + 1)
            text = text[:at] + dice.choice([*pieces, ""]) + text[at + dice.randint(0, 2) :]
        found.append(text)
    return found


def test_cxx_reads_what_python_reads(program: Path) -> None:
    """And nothing else, byte for byte; with the sanitizers of addresses and undefined behaviour."""
    texts = [*RIGHT, *WRONG.values(), *mutants(5000)]
    data = [text.encode("utf-8", "surrogatepass") for text in texts]
    given = b"".join(b"%d\n%s" % (len(d), d) for d in data)
    done = subprocess.run([program], input=given, capture_output=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr.decode()
    found = done.stdout.decode().splitlines()
    documents = [parsed(text) for text in texts]
    assert found == ["no" if d is None else seen(d) for d in documents]
    assert sum(d is not None for d in documents[len(RIGHT) + len(WRONG) :]) > 100
