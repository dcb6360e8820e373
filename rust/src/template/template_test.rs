//! Bounds: hostile templates fail, with a limit or an error, in bounded time and memory.

use super::*;

fn request<'a>(messages: &'a str, output_bytes_max: usize) -> Request<'a> {
    Request {
        messages,
        tools: "",
        documents: "",
        special_tokens: "",
        variables: "",
        add_generation_prompt: true,
        continue_final_message: false,
        local_time_s: 0,
        output_bytes_max,
        shield: None,
    }
}

const MESSAGES: &str = r#"[{"role": "user", "content": "hi"}]"#;

fn render(source: &str) -> Result<String> {
    Template::compile(source)?.render(&request(MESSAGES, 1 << 20))
}

#[test]
fn hostile_templates_end_in_errors() {
    let deep = |open: &str, close: &str, n: usize| open.repeat(n) + "1" + &close.repeat(n);
    let sources = [
        // time
        "{% for i in range(1000000000) %}{% endfor %}".to_string(),
        "{% for a in range(99999) %}{% for b in range(99999) %}{% set x = a * b %}{% endfor %}{% endfor %}".into(),
        "{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}".into(),
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}".into(),
        "{% macro f(n) %}{{ f(n + 1) }}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}".into(),
        "{% macro f() %}{{ g() }}{% endmacro %}{% macro g() %}{{ f() }}{% endmacro %}{{ f() }}".into(),
        "{{ range(99999)|map('string')|list|sort|unique|list|length ** 99 }}{% for i in range(9999) %}{{ range(9999)|sum }}{% endfor %}".into(),
        // memory
        "{% set ns = namespace(s='x') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}".into(),
        "{% set ns = namespace(s='x') %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}".into(),
        "{% set ns = namespace(s=[1]) %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}{{ ns.s|length }}{{ ns.s }}".into(),
        // Values that are small to make and large to walk: lists in lists, lazy lists over lazy lists.
        "{% set ns = namespace(s=[1]) %}{% for i in range(40) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}{{ ns.s|string }}".into(),
        "{% set ns = namespace(s={}) %}{% for i in range(40) %}{% set ns.s = {'a': ns.s, 'b': ns.s} %}{% endfor %}{{ {ns.s: 1} }}".into(),
        "{% set ns = namespace(s=(1,)) %}{% for i in range(40) %}{% set ns.s = (ns.s, ns.s) %}{% endfor %}{% if ns.s == 1 == 2 %}{% endif %}".into(),
        "{% set ns = namespace(s=[1]) %}{% for i in range(20) %}{% set ns.s = ns.s + ns.s %}{% endfor %}{% for i in range(99999) %}{% set ns.s = ns.s + [1] %}{% endfor %}".into(),
        "{% set ns = namespace(s=range(9999)|list) %}{% for i in range(9999) %}{% set ns.s = ns.s * 1 %}{% endfor %}{% for x in ns.s %}{% endfor %}".into(),
        "{% set ns = namespace(s=range(9999)|list) %}{% for i in range(9999) %}{% set ns.s = ns.s[0:] %}{% endfor %}{% for x in ns.s %}{% endfor %}".into(),
        "{% set l = range(99999)|list %}{% for i in range(9999) %}{% set a = l[99998:]|length %}{% endfor %}".into(),
        "{% set l = [range(99999)|list] %}{% set m = [range(99999)|list] %}{% for i in range(99999) %}{% set a = l == m %}{% endfor %}".into(),
        "{% set l = [range(99999)|list] %}{% set m = range(99999)|list %}{% for i in range(99999) %}{% set a = m in l %}{% endfor %}".into(),
        "{% set l = range(99999)|list %}{% for i in range(99999) %}{% set a = l.count(1) %}{% endfor %}".into(),
        "{% set l = 'x' * 999999 %}{% for i in range(99999) %}{% if l is lower %}{% endif %}{% endfor %}".into(),
        "{% set l = 'x' * 999999 %}{% set m = 'x' * 999999 %}{% for i in range(99999) %}{% set a = l < m %}{% endfor %}".into(),
        format!("{{{{ [{}] }}}}", "x,".repeat(70_000)),
        "{{ 'x' * 1000000000 }}".into(),
        "{{ [0] * 1000000000 }}".into(),
        "{{ 'x'.replace('', 'y' * 90000).replace('y', 'z' * 90000)|length }}".into(),
        "{{ '%99999999999d'|format(1) }}".into(),
        "{{ '{:>9999999999}'.format(1) }}".into(),
        "{{ '{:>{w}}'.format(1, w=9999999999) }}".into(),
        "{{ '%*d' % (9999999999, 1) }}".into(),
        "{{ '%9999999999d' % 1 }}".into(),
        "{{ ('%9999d' * 100000) % 1 }}".into(),
        "{{ ('x' * 100000)|indent(100000)|length }}{{ ('\n' * 90000)|indent(90000) }}".into(),
        "{{ (['x'] * 9000)|join('y' * 90000)|length }}".into(),
        "{{ ('y' * 90000).join(['x'] * 90000)|length }}".into(),
        "{% for i in range(99999) %}{{ 'x' * 1000 }}{% endfor %}".into(),
        "{% set x %}{% for i in range(99999) %}{{ 'x' * 10000 }}{% endfor %}{% endset %}{{ x|length }}".into(),
        "{% for i in range(99999) %}{{ (range(2000)|list)|tojson(indent=60)|length }}{% endfor %}".into(),
        // nesting
        deep("{{ ", " }}", 1),
        format!("{{{{ {} }}}}", deep("(", ")", 100_000)),
        format!("{{{{ {} }}}}", deep("[", "]", 100_000)),
        format!("{{{{ {}1 }}}}", "not ".repeat(100_000)),
        format!("{{{{ {}1 }}}}", "-".repeat(100_000)),
        format!("{{{{ 1{} }}}}", "|abs".repeat(300_000)),
        format!("{{{{ 1{} }}}}", "+1".repeat(300_000)),
        format!("{{{{ x{} }}}}", ".x".repeat(300_000)),
        format!("{{% if 1 %}}{}{{% endif %}}", "{% elif 1 %}".repeat(50_000)),
        deep("{% if 1 %}", "{% endif %}", 50_000),
        deep("{% for i in [1] %}", "{% endfor %}", 300),
        "{% set ns = namespace(x=[]) %}{% for i in range(99999) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x }}{{ ns.x|tojson }}".into(),
        // size and syntax
        format!("{{# {} #}}", "x".repeat(1 << 20)),
        "{% if".into(),
        "{{ 'x".into(),
        "{% endfor %}".into(),
        "{% include 'x' %}".into(),
        "{% extends messages %}".into(),
    ];
    for source in &sources {
        let shown = &source[..source.len().min(120)];
        println!("{shown}");
        if let Ok(text) = render(source) {
            assert!(text.len() <= 1 << 20 && source.starts_with("{{ 1 }}"), "{shown}");
        }
    }
}

#[test]
fn nothing_outside_the_input_can_be_reached() {
    for source in [
        "{{ ''.__class__ }}",
        "{{ messages.__class__ }}",
        "{{ ''|attr('__class__') }}",
        "{{ config }}{{ self }}{{ request }}{{ env }}",
        "{{ cycler.__init__ }}{{ range.__globals__ }}{{ namespace.__init__ }}",
    ] {
        // An undefined value prints as nothing.
        assert!(render(source).map_or(true, |text| text.is_empty()), "{source}");
    }
    for source in [
        "{{ ''.__class__.__mro__ }}",
        "{{ cycler.__init__.__globals__.os }}",
        "{{ [].append(1) }}",
        "{{ {}.update({}) }}",
        "{{ ''.__class__() }}",
    ] {
        assert!(render(source).is_err(), "{source}");
    }
}

#[test]
fn errors_say_what_happened() {
    let raised = render("{{ raise_exception('Roles must alternate.') }}").unwrap_err();
    assert_eq!((raised.status, raised.message.as_str()), (Status::Raised, "Roles must alternate."));
    let nested = render("{% macro m() %}{{ raise_exception('inner') }}{% endmacro %}{{ m()|upper }}").unwrap_err();
    assert_eq!((nested.status, nested.message.as_str()), (Status::Raised, "inner"));
    let fuel = render("{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}").unwrap_err();
    assert_eq!(fuel.status, Status::Limit);
    let long = Template::compile("{{ 'x' * 5000 }}").unwrap().render(&request(MESSAGES, 100)).unwrap_err();
    assert_eq!(long.status, Status::Limit);
    assert!(long.message.contains("100 bytes"), "{}", long.message);
    let syntax = render("a\nb\n{% if x %}").unwrap_err();
    assert!(syntax.message.contains("line 3"), "{}", syntax.message);
    let too_large = render(&"x".repeat((1 << 20) + 1)).unwrap_err();
    assert_eq!(too_large.status, Status::Limit);
}

#[test]
fn bad_input_names_its_part() {
    let template = Template::compile("{{ messages }}").unwrap();
    let deep = "[".repeat(100_000);
    for (messages, part) in [("", "messages"), ("{}", "messages"), ("[1", "messages"), (deep.as_str(), "messages")] {
        let error = template.render(&request(messages, 1000)).unwrap_err();
        assert!(error.message.starts_with(part), "{}", error.message);
    }
    let mut reserved = request(MESSAGES, 1000);
    reserved.variables = r#"{"messages": []}"#;
    assert!(template.render(&reserved).unwrap_err().message.contains("'messages' may not be set"));
    reserved.variables = "[]";
    assert!(template.render(&reserved).unwrap_err().message.contains("not an object"));
}

#[test]
fn many_messages_fit_the_budget() {
    let one = r#"{"role": "user", "content": "A message of a usual length, as people write them."}"#;
    let messages = format!("[{}]", vec![one; 10_000].join(","));
    let source = "{% for m in messages %}{% if m.role == 'user' and loop.index0 % 2 == 0 %}{{ '<|im_start|>' + m['role'] + '\n' + m['content']|trim + '<|im_end|>\n' }}{% else %}{{ m.content }}{% endif %}{% endfor %}";
    let text = Template::compile(source).unwrap().render(&request(&messages, 16 << 20)).unwrap();
    assert!(text.len() > 500_000);
    let collected = "{% set ns = namespace(x=[]) %}{% for m in messages %}{% set ns.x = ns.x + [m] %}{% endfor %}{{ ns.x|length }} {{ ns.x[-1].role }} {{ ns.x[9998:]|length }}";
    assert_eq!(Template::compile(collected).unwrap().render(&request(&messages, 1000)).unwrap(), "10000 user 2");
}

#[test]
fn operators_do_what_python_does() {
    let items = |n: usize| format!("(range({n})|list)");
    let long = format!("{} + {} + [7]", items(100), items(30));
    for (expression, expected) in [
        ("one + two + [] + [4]", "[1, 2, 4]"),
        ("pair + pair", "(1, 2, 1, 2)"),
        ("[] + []", "[]"),
        ("(one + two)[-1]", "2"),
        ("(one + two) == [1, 2]", "True"),
        ("(one + two) is sequence", "True"),
        ("2 in one + two", "True"),
        ("(one + ['a'])|tojson", "[1, \"a\"]"),
        ("(two + one)|sort", "[1, 2]"),
        ("(one + two)[::-1]", "[2, 1]"),
        ("(two * 3)[1:]", "[2, 2]"),
        ("pair[1:]", "(2,)"),
        ("[1, 2, 3][:-1]|tojson", "[1, 2]"),
        ("one[5:]", "[]"),
        ("ab[1:]", "b"),
        ("(one + two) * 2", "[1, 2, 1, 2]"),
        ("2 * one", "[1, 1]"),
        ("one * -1", "[]"),
        ("pair * 2", "(1, 2, 1, 2)"),
        ("ab * 2", "abab"),
        ("two[0] * 1.5 + one[0] * 3", "6.0"),
        ("6 * 7", "42"),
        ("2 * 1.5", "3.0"),
        ("'a' ~ 1 ~ 1.0 ~ true ~ none ~ [1, 'b'] ~ {'a': 1.0}", "a11.0TrueNone[1, 'b']{'a': 1.0}"),
        ("1 < 2 < 3", "True"),
        ("[1, 2] < [1, 3]", "True"),
        ("'b' >= 'a' and 1 != 2 and 1 <= 1 and 2 > 1", "True"),
        ("'a' in 'cat' and 'a' in ['a'] and 'a' in {'a': 1} and 'b' not in ['a']", "True"),
        ("{'b': 1, 'a': [2]}", "{'b': 1, 'a': [2]}"),
        ("'Ab' is lower or 'AB' is not upper or '1' is lower", "False"),
        ("'ab' is lower and 'A1' is upper", "True"),
    ] {
        let prelude = "{% set one = [1] %}{% set two = [2] %}{% set pair = (1, 2) %}{% set ab = 'ab' %}"; // what is constant is computed while compiling
        assert_eq!(render(&format!("{prelude}{{{{ {expression} }}}}")).unwrap(), expected, "{expression}");
    }
    assert_eq!(render(&format!("{{% set l = {long} %}}{{{{ l|length }}}} {{{{ l[99] }}}} {{{{ l[100] }}}} {{{{ l[129] }}}} {{{{ l[130] }}}}")).unwrap(), "131 99 0 29 7");
    // A list that was added to stays as it was.
    assert_eq!(render("{% set a = [1] + [2] %}{% set b = a + [3] %}{% set c = a + [4] %}{{ a }}{{ b }}{{ c }}").unwrap(), "[1, 2][1, 2, 3][1, 2, 4]");
}

#[test]
fn a_final_message_is_continued() {
    let template = Template::compile("{% for m in messages %}[{{ m.role }}]{{ m.content|trim }}<end>{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}").unwrap();
    let prompt = |messages: &str| {
        let mut request = request(messages, 1000);
        request.add_generation_prompt = false;
        request.continue_final_message = true;
        template.render(&request)
    };
    let two = |text: &str| format!(r#"[{{"role": "user", "content": "a"}}, {{"role": "assistant", "content": {text}}}]"#);
    assert_eq!(prompt(&two(r#""Sure, ""#)).unwrap(), "[user]a<end>[assistant]Sure,");
    assert_eq!(prompt(&two(r#""Sure""#)).unwrap(), "[user]a<end>[assistant]Sure");
    assert!(prompt(&two("null")).is_err());
    assert!(prompt(&two(r#""not <b>""#)).is_ok());
    let upper = Template::compile("{{ messages[-1].content|upper }}").unwrap();
    let mut request = request(MESSAGES, 1000);
    request.continue_final_message = true;
    assert!(upper.render(&request).unwrap_err().message.contains("as it is"));
}

#[test]
fn line_ends_of_the_source_do_not_matter() {
    assert_eq!(render("{% if true %}\r\na\r{% endif %}\r\nb").unwrap(), "a\nb");
}
