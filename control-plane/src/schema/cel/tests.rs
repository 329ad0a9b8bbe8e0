use std::sync::Arc;

use serde_json::{Value, json};

use super::declared::{Declared, Kind, List, Object, Topology};
use super::*;

const STEPS: u64 = 1_000_000;

fn list(item: Declared, topology: Topology) -> Declared {
    Declared::of(Kind::List(Arc::new(List { item, topology })))
}

/// An object with a field of each kind.
fn declared() -> Declared {
    let of = Declared::of;
    let mut item = Object::default();
    item.add("name", of(Kind::String));
    item.add("port", of(Kind::Int));
    let item = of(Kind::Object(Arc::new(item)));
    let mut object = Object::default();
    object.add("s", of(Kind::String));
    object.add("i", of(Kind::Int));
    object.add("j", of(Kind::Int));
    object.add("d", of(Kind::Double));
    object.add("b", of(Kind::Bool));
    object.add("any", of(Kind::IntOrString));
    object.add("bytes", of(Kind::Bytes));
    object.add("span", of(Kind::Duration));
    object.add("day", of(Kind::Date));
    object.add("at", of(Kind::Timestamp));
    object.add("ints", list(of(Kind::Int), Topology::Atomic));
    object.add("texts", list(of(Kind::String), Topology::Atomic));
    object.add("set", list(of(Kind::String), Topology::Set));
    object.add("other-set", list(of(Kind::String), Topology::Set));
    object.add("ports", list(item.clone(), Topology::Map(vec!["name".into()])));
    object.add("plain", list(item, Topology::Atomic));
    object.add("labels", of(Kind::Map(Arc::new(of(Kind::String)))));
    object.add("namespace", of(Kind::String));
    object.add("a.b/c__d", of(Kind::String));
    object.add("maybe", Declared { kind: Kind::String, nullable: true });
    object.add("absent", of(Kind::String));
    object.add("maybes", list(Declared { kind: Kind::Int, nullable: true }, Topology::Atomic));
    of(Kind::Object(Arc::new(object)))
}

fn object() -> Value {
    json!({
        "s": "Größe", "i": 7, "j": 7.0, "d": 1, "b": true, "any": "50%", "bytes": "aGk=", "span": "1h30m",
        "day": "2024-02-29", "at": "2024-02-29T12:30:15.250Z", "ints": [3, 1, 2], "texts": ["a", "b"],
        "set": ["x", "y"], "other-set": ["y", "x"], "unknown": 1,
        "ports": [{"name": "a", "port": 1}, {"name": "b", "port": 2}], "plain": [{"name": "b", "port": 2}, {"name": "a", "port": 1}],
        "labels": {"app": "web", "a/b": "c"}, "namespace": "n", "a.b/c__d": "e", "maybe": null, "maybes": [1, null],
    })
}

fn compiled(text: &str) -> Result<Program, CompileError> {
    Program::compile(text, &declared(), false, Wanted::Bool, &mut { 64 << 20 })
}

/// What a rule says of the object: `true`, `false`, an error, or why it is none.
fn told(text: &str) -> String {
    let program = match compiled(text) {
        Ok(program) => program,
        Err(error) => return error.to_string(),
    };
    let (declared, object) = (declared(), object());
    let subject =
        Subject { declared: &declared, value: &object, old: Some(&object), optional_old: false };
    match program.holds(subject, &Budget::new(STEPS)) {
        Ok(holds) => holds.to_string(),
        Err(Fault::Error(error)) => error,
        Err(Fault::Cost) => "cost".to_owned(),
    }
}

fn all_hold(rules: &[&str]) {
    let wrong: Vec<String> = rules
        .iter()
        .map(|rule| (rule, told(rule)))
        .filter(|(_, told)| told != "true")
        .map(|(rule, told)| format!("{rule}: {told}"))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_language_is_as_specified() {
    all_hold(&[
        "1 + 2 * 3 == 7 && (1 + 2) * 3 == 9 && 7 / 2 == 3 && -7 % 4 == -3 && 2u + 3u == 5u",
        "0x1F == 31 && 1e3 == 1000.0 && .5 == 0.5 && -9223372036854775808 < 0",
        "'a' + 'b' == \"ab\" && '''a'b''' == \"a'b\" && r'\\d' == '\\\\d' && '\\u00e4\\x41' == 'äA' && b'\\xff' == b'\\377'",
        "// a remark\n true",
        "true ? !false : 1 / 0 == 1",
        "self.i > 5 ? (self.i < 9 ? true : false) : self.i > 3 ? true : false",
        // what decides does so whatever errors there are
        "true || 1 / 0 == 1",
        "1 / 0 == 1 || true",
        "!(1 / 0 == 1 && false)",
        "[1, 0].exists(x, 2 / x == 2)",
        "![0, 1].all(x, 2 / x == 3)",
        "1 in [1, 2] && !(3 in [1, 2]) && 'app' in self.labels && !('b' in self.labels)",
        "[1, 2] + [3] == [1, 2, 3] && [1, 2] != [2, 1] && {'a': 1} == {'a': 1} && {'a': [1]}.a[0] == 1",
        "[1, 2, 3].all(x, x > 0) && [1, 2].exists_one(x, x > 1) && ![2, 2].exists_one(x, x > 1)",
        "[1, 2, 3].map(x, x * 2) == [2, 4, 6] && [1, 2, 3].map(x, x > 1, x * 2) == [4, 6]",
        "[1, 2, 3].filter(x, x > 1) == [2, 3] && [[1], [2]].all(x, x.all(y, y > 0))",
        "self.labels.all(key, key.startsWith('a')) && self.labels['a/b'] == 'c' && self.labels.app == 'web'",
        "type(1) == int && type('') == string && type([]) == list && type(self.at) == google.protobuf.Timestamp",
        "int('7') == 7 && string(7) == '7' && double('1.5') == 1.5 && uint(7) == 7u && int(7.9) == 7 && bool('true')",
        "string(1.0) == '1' && string(1e6) == '1e+06' && string(0.5) == '0.5' && string(b'hi') == 'hi' && bytes('hi') == b'hi'",
        "1 < 2.5 && 2u > 1 && 1.0 <= 1 && 'a' < 'b' && false < true && dyn(1) == dyn(1.0) && dyn(1) != dyn('1')",
        "size('Größe') == 5 && 'abc'.size() == 3 && size([1]) == 1 && size({}) == 0 && size(b'abc') == 3",
        "has(self.s) && !has(self.absent) && has({'a': 1}.a) && !has({'a': 1}.b)",
        // names of functions and types are names of fields and variables, too
        "{'matches': [1]}.matches[0] == 1 && {'type': 'a'}.type == 'a' && [1].all(type, type == 1) && ['::1'].all(ip, isIP(ip) && ip(ip).family() == 6)",
        "[has(self.s), has(self.absent)].exists_one(there, there) && self.?labels[?'app'].orValue('') == 'web' && !self.?labels.?none.hasValue()",
        "self.any == '50%' && (type(self.any) == int ? self.any < 5 : self.any.endsWith('%'))",
    ]);
}

#[test]
fn an_object_is_seen_as_its_schema_says() {
    all_hold(&[
        "self.s == 'Größe' && self.i == 7 && self.j == 7 && self.d == 1.0 && self.b",
        "self.bytes == b'hi' && self.span == duration('90m') && self.at > timestamp('2024-01-01T00:00:00Z')",
        "self.day == timestamp('2024-02-29T00:00:00Z') && self.day.getMonth() == 1",
        "self.__namespace__ == 'n' && self.a__dot__b__slash__c__underscores__d == 'e'",
        // sets and lists with keys have no order, others have
        "self.set == self.other__dash__set && self.set == ['y', 'x'] && self.ports == self.plain",
        "self.plain != self.ports && self.texts != ['b', 'a']",
        "(self.set + ['z', 'x']) == ['x', 'y', 'z'] && size(self.set + self.other__dash__set) == 2",
        "(self.ports + self.plain)[0].name == 'a' && size(self.plain + self.ports) == 4",
        // null is absent as a field, and a value in a list
        "!has(self.maybe) && self.maybes == [1, dyn(null)] && dyn(self.maybes[1]) == null",
        "self == oldSelf",
        "self.ports.exists(p, p.port == 2 && p.name == 'b')",
    ]);
    for (rule, expected) in [
        ("self.absent == 'x'", "no such key: absent"),
        ("self.labels.b == 'x'", "no such key: b"),
        ("self.ints[3] == 1", "index out of bounds: 3"),
        ("self.i / (self.i - 7) == 1", "division by zero"),
        ("self.i * 9223372036854775807 > 0", "integer overflow"),
        ("self.any > 5", "no such overload"),
        ("self.any.size() == 3", "true"),
    ] {
        assert_eq!(told(rule), expected, "{rule}");
    }
}

#[test]
fn the_libraries_are_as_documented() {
    all_hold(&[
        "'TacoCat'.lowerAscii() == 'tacocat' && 'TacoCÆt'.upperAscii() == 'TACOCÆT' && ' \\n a\\t'.trim() == 'a'",
        "'tacocat'.charAt(4) == 'c' && 'tacocat'.charAt(7) == '' && 'tacocat'.substring(4) == 'cat' && 'tacocat'.substring(0, 4) == 'taco'",
        "'hello mellow'.indexOf('ello', 2) == 7 && 'hello mellow'.indexOf('') == 0 && 'größe'.indexOf('e') == 4",
        "'hello mellow'.lastIndexOf('ello') == 7 && 'hello mellow'.lastIndexOf('ello', 6) == 1 && 'a'.lastIndexOf('b') == -1",
        "'hello hello'.replace('he', 'we') == 'wello wello' && 'hello hello'.replace('he', 'we', 1) == 'wello hello' && 'a'.replace('a', 'b', 0) == 'a'",
        "'a b c'.split(' ') == ['a', 'b', 'c'] && 'a b c'.split(' ', 2) == ['a', 'b c'] && 'a b'.split(' ', 0) == [] && 'ab'.split('') == ['a', 'b']",
        "['a', 'b'].join() == 'ab' && ['a', 'b'].join(', ') == 'a, b' && strings.quote('a\"b\\n') == '\"a\\\\\"b\\\\n\"'",
        "'%s has %d of %.2f, %x %X %o %b %e%%'.format(['a', 3, 1.5, 255, 'hi', 8, true, 1234.5]) == 'a has 3 of 1.50, ff 6869 10 1 1.234500e+03%'",
        "'%s %s'.format([[1, 2], {'a': true}]) == '[1, 2] {a: true}' && '%s'.format([duration('1.5s')]) == '1.5s'",
        "[1, 2, 2].isSorted() && !['b', 'a'].isSorted() && [1, 3].sum() == 4 && [0.5, 1.5].sum() == 2.0 && [3, 1].min() == 1 && [3, 1].max() == 3",
        "[1, 2, 2].indexOf(2) == 1 && [1, 2, 2].lastIndexOf(2) == 2 && [1].indexOf(5) == -1",
        "sets.contains([1, 2], [2]) && !sets.contains([1], [2]) && sets.equivalent([1, 1], [1]) && sets.intersects([1, 2], [2, 3])",
        "'abc 123'.find('[0-9]+') == '123' && 'abc'.find('[0-9]+') == '' && '1, 2, 3'.findAll('[0-9]+') == ['1', '2', '3'] && '1, 2'.findAll('[0-9]+', 1) == ['1']",
        "'abc'.matches('b') && !'abc'.matches('^b') && matches('abc', 'c$') && self.s.matches('^Gr')",
        "url('https://example.com:80/a b?k=v&k=w').getHost() == 'example.com:80' && url('https://[::1]:80/').getHostname() == '::1' && url('https://a:80/').getPort() == '80'",
        "url('https://a/b c').getEscapedPath() == '/b%20c' && url('https://a/?k=v+w&k=x').getQuery()['k'] == ['v w', 'x'] && url('/p').getScheme() == ''",
        "isURL('https://a') && isURL('/absolute') && !isURL('a b') && !isURL('https://a:b/') && !isURL('') && !isURL('https://a b/')",
        "quantity('1Gi').isGreaterThan(quantity('1G')) && quantity('50k').add(20) == quantity('50020') && quantity('50k').sub(quantity('20k')).asInteger() == 30000",
        "isQuantity('1.3Gi') && !isQuantity('1,3G') && !isQuantity('200K') && quantity('0.5').sign() == 1 && !quantity('0.5').isInteger() && quantity('200M').compareTo(quantity('0.2G')) == 0",
        "!quantity('9999999999999999999999999999999999999G').isInteger() && quantity('1500m').asApproximateFloat() == 1.5",
        "ip('10.0.0.1').family() == 4 && ip('::1').isLoopback() && isIP('fd00::1') && !isIP('::ffff:1.2.3.4') && !isIP('01.2.3.4') && !isIP('fe80::1%eth0')",
        "ip.isCanonical('2001:db8::abcd') && !ip.isCanonical('2001:DB8::ABCD') && ip('224.0.0.1').isLinkLocalMulticast() && ip('169.254.1.1').isLinkLocalUnicast() && !ip('255.255.255.255').isGlobalUnicast()",
        "cidr('192.168.0.0/24').containsIP('192.168.0.1') && !cidr('192.168.0.0/24').containsIP(ip('192.168.1.1')) && cidr('10.0.0.0/8').containsCIDR('10.1.0.0/16') && !cidr('10.1.0.0/16').containsCIDR(cidr('10.0.0.0/8'))",
        "isCIDR('::/0') && !isCIDR('10.0.0.0/33') && !isCIDR('10.0.0.0') && cidr('192.168.0.1/24').masked() == cidr('192.168.0.0/24') && string(cidr('::1/128').ip()) == '::1' && cidr('::1/128').prefixLength() == 128",
        "!format.dns1123Label().validate('my-label').hasValue() && format.dns1123Label().validate('Label_').value().size() > 0",
        "format.named('dns1035Label').value().validate('1a').hasValue() && !format.named('none').hasValue() && !format.uuid().validate('f47ac10b-58cc-4372-a567-0e02b2c3d479').hasValue()",
        "self.?absent.orValue('x') == 'x' && self.?s.hasValue() && optional.of(1).value() == 1 && optional.none().orValue(2) == 2",
        "self.labels[?'none'].orValue('d') == 'd' && self.ints[?9].hasValue() == false && [?self.?absent, 'a'] == ['a'] && {?'a': self.?absent} == {}",
        "self.?s.optMap(s, s.size()).orValue(0) == 5 && self.?s.optFlatMap(s, optional.none()).hasValue() == false && optional.ofNonZeroValue('').or(optional.of('b')).value() == 'b'",
        "timestamp('2024-02-29T12:30:15.250Z').getHours('+02:00') == 14 && self.at.getFullYear() == 2024 && self.at.getDate() == 29 && self.at.getDayOfMonth() == 28 && self.at.getDayOfWeek() == 4 && self.at.getDayOfYear() == 59",
        // the hour is skipped in spring, there twice in autumn, and the rule goes on after all that is listed
        "timestamp('2024-03-31T00:59:59Z').getHours('Europe/Berlin') == 1 && timestamp('2024-03-31T01:00:00Z').getHours('Europe/Berlin') == 3",
        "timestamp('2024-10-27T00:59:59Z').getHours('Europe/Berlin') == 2 && timestamp('2024-10-27T01:00:00Z').getHours('Europe/Berlin') == 2",
        "timestamp('2050-07-01T12:00:00Z').getHours('Europe/Berlin') == 14 && timestamp('2050-12-01T12:00:00Z').getHours('Europe/Berlin') == 13",
        "self.at.getMinutes('Asia/Kathmandu') == 15 && self.at.getHours('-02:31') == 9 && self.at.getHours('UTC') == 12 && self.at.getDate('+12:00') == 1",
        "self.at.getMinutes() == 30 && self.at.getSeconds() == 15 && self.at.getMilliseconds() == 250 && self.at - duration('1h') < self.at && self.at - self.at == duration('0')",
        "duration('1h30m').getMinutes() == 90 && duration('1.5s').getMilliseconds() == 1500 && string(duration('-1.5s')) == '-1.5s' && string(self.at) == '2024-02-29T12:30:15.25Z'",
    ]);
    for (rule, expected) in [
        ("'a'.charAt(2) == ''", "index out of range: 2"),
        ("self.at.getHours('europe/berlin') == 1", "unknown time zone europe/berlin"),
        ("self.at.getHours('02:x') == 1", "unknown time zone 02:x"),
        ("'a'.substring(1, 0) == ''", "invalid substring range. start: 1, end: 0"),
        ("optional.none().value() == 1", "optional.none() dereference"),
        (
            "quantity(self.s).isInteger()",
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
        ("'x'.matches(self.s + '(')", "the regular expression is told"),
        ("[].min() == 1", "min called on empty list"),
    ] {
        let told = told(rule);
        assert!(told == expected || rule.contains("matches"), "{rule}: {told}");
        assert!(!["true", "false"].contains(&told.as_str()), "{rule}: {told}");
    }
}

#[test]
fn what_cannot_be_evaluated_is_refused_before_it_is() {
    for (rule, expected) in [
        ("self.fo == 1", "ERROR: <input>:1:5: undefined field 'fo'\n | self.fo == 1\n | ....^"),
        ("true &&\nself.fo", "ERROR: <input>:2:5: undefined field 'fo'\n | self.fo\n | ....^"),
        ("foo", "undeclared reference to 'foo' (in container '')"),
        ("foo(1)", "undeclared reference to 'foo' (in container '')"),
        ("self.s.reverse() == ''", "undeclared reference to 'reverse' (in container '')"),
        ("self.ints.all(i, x, x > i)", "undeclared reference to 'all' (in container '')"),
        ("self.s == 1", "found no matching overload for '_==_' applied to '(string, int)'"),
        (
            "self.s.startsWith(1)",
            "found no matching overload for 'startsWith' applied to 'string.(int)'",
        ),
        ("self.b && 1", "expected type 'bool' but found 'int'"),
        ("self.ints.all(i, i)", "expected type 'bool' but found 'int'"),
        ("self.s.all(i, true)", "expression of type 'string' cannot be range of a comprehension"),
        ("self.i.x == 1", "type 'int' does not support field selection"),
        ("[1, 'a'].size() == 2", "expected type 'int' but found 'string'"),
        ("has(self)", "invalid argument to has() macro"),
        ("self.ints.all(1, true)", "argument must be a simple name"),
        ("self.s.matches('(')", "invalid matches argument"),
        ("duration('1x') == duration('1s')", "invalid duration argument"),
        ("timestamp('x') > self.at", "invalid timestamp argument"),
        ("self.i", "must evaluate to a bool"),
        ("self.plain.min() == self.plain[0]", "found no matching overload for 'min'"),
        ("self.b &&", "Syntax error: extraneous input '<EOF>'"),
        ("self.b)", "Syntax error: extraneous input ')'"),
        ("(self.b", "Syntax error: mismatched input '<EOF>' expecting ')'"),
        ("'a", "the text has no end"),
        ("9223372036854775808 > 0", "invalid int literal"),
        ("for == 1", "reserved identifier: for"),
        ("a.B{c: 1} == 1", "messages cannot be constructed in rules"),
        ("self.unknown == 1", "undefined field 'unknown'"),
        ("1 = 1", "token recognition error at: '='"),
    ] {
        let told = told(rule);
        assert!(told.contains(expected), "{rule}: {told}");
    }
}

#[test]
fn no_rule_stops_the_server() {
    let again = |rule: &str| {
        let loops = "[1,2,3,4,5,6,7,8,9,10].all(x, ".repeat(4);
        format!("{loops}({rule}) || true{}", ")".repeat(4))
    };
    let deep = |open: &str, close: &str, times: usize| {
        format!("{}true{}", open.repeat(times), close.repeat(times))
    };
    for rule in [
        deep("(", ")", 10_000),
        deep("!", "", 10_000),
        deep("[", "]", 10_000) + " == []",
        deep("1 + -(1 || 1 && 1 == 1 + 1 * (", "))", 2_000),
        deep("true ? true : ", "", 5_000),
        format!("self{} == 1", ".a".repeat(10_000)),
        format!("self{} == 1", "[0]".repeat(10_000)),
        format!("1{} == 1", " + 1".repeat(10_000)),
        format!("{}x{}", "[1].map(x, ".repeat(500), ")".repeat(500)),
    ] {
        let told = told(&rule);
        assert!(told.contains("expression recursion limit exceeded: 100"), "{told:.300}");
    }
    assert!(told(&" ".repeat(100_001)).contains("expression code point size exceeds limit"));
    // as deep as may be is no deeper than the stack
    assert_eq!(told(&deep("(", ")", 99)), "true");
    assert_eq!(told(&deep("!!", "", 49)), "true");
    assert_eq!(told(&format!("{}1{} != []", "[1].map(x, ".repeat(96), ")".repeat(96))), "true");
    // a long rule is not a deep one
    assert_eq!(told(&format!("true{}", " && true".repeat(10_000))), "true");
    for rule in [
        // loops within loops
        "[1,2,3,4,5,6,7,8,9,10].all(a, [1,2,3,4,5,6,7,8,9,10].all(b, [1,2,3,4,5,6,7,8,9,10].all(c, [1,2,3,4,5,6,7,8,9,10].all(d, [1,2,3,4,5,6,7,8,9,10].all(e, [1,2,3,4,5,6,7,8,9,10].all(f, true))))))".to_owned(),
        // what doubles with each step
        format!("['aaaaaaaaaaaaaaaa']{}.size() == 1", ".map(x, x + x)".repeat(40)),
        format!("[[1]]{}.size() == 1", ".map(x, x + x)".repeat(40)),
        format!("['aaaaaaaa']{}.size() == 1", ".map(x, x.replace('a', 'aaaaaaaa'))".repeat(40)),
        format!("['aaaaaaaa']{}.size() == 1", ".map(x, x.split('').join(x))".repeat(10)),
        format!("['aaaaaaaa']{}.size() == 1", ".map(x, '%s%s%s'.format([x, x, x]))".repeat(40)),
        // an error elsewhere is not taken for a budget that is gone
        format!("true && ([[1]]{}.size() == 1 || true)", ".map(x, x + x)".repeat(40)),
        // long texts, again and again
        again(&format!("duration('{}') > duration('0s')", "1ns".repeat(10_000))),
        again(&format!("int('{}1') == 1", "0".repeat(30_000))),
        again(&format!("url('/?{}').getQuery().size() == 0", "a".repeat(30_000))),
        again(&format!("!isIP('{}')", "1".repeat(30_000))),
        // an expression that is far greater than its text
        format!("[1,2,3,4,5,6,7,8,9].all(a, [1,2,3,4,5,6,7,8,9].all(b, {:?}.matches('(a{{0,30}}){{0,30}}b' + self.s)))", "a".repeat(5_000)),
    ] {
        let began = std::time::Instant::now();
        assert_eq!(told(&rule), "cost", "{rule:.200}");
        assert!(began.elapsed().as_secs() < 20, "{rule:.200}");
    }
}

/// Pieces of rules, right and wrong.
const PIECES: [&str; 46] = [
    "self",
    "self.s",
    "self.any",
    "self.ints",
    "self.labels",
    "self.ports",
    "self.?absent",
    "oldSelf",
    "x",
    "1",
    "-1",
    "0",
    "2u",
    "1.5",
    "'a'",
    "'%s'",
    "b'a'",
    "null",
    "true",
    "[",
    "]",
    "(",
    ")",
    "{",
    "}",
    ",",
    ":",
    "?",
    "&&",
    "||",
    "!",
    "+",
    "-",
    "/",
    "%",
    "==",
    "<",
    "in",
    ".size()",
    ".all(x,",
    ".map(x,",
    ".substring(1)",
    ".format(",
    "has(",
    "dyn(",
    ".charAt(",
];

proptest::proptest! {
    #[test]
    fn any_rule_is_refused_or_ends(pieces in proptest::collection::vec(proptest::sample::select(&PIECES[..]), 1..12)) {
        told(&pieces.join(" "));
        told(&format!("dyn({}) == 1", pieces.concat()));
    }

    #[test]
    fn any_text_is_refused_or_ends(text in "[ -~ä\n]{0,20}") {
        told(&text);
        told(&format!("isURL({text:?}) || isIP({text:?}) || isCIDR({text:?}) || isQuantity({text:?})"));
        told(&format!("{text:?}.matches({text:?}) || {text:?}.format([1, 'a', 1.5]) == '' || duration({text:?} + '') == duration('1s')"));
        told(&format!("{text:?}.lastIndexOf('ä', {}) == 1 || {text:?}.split('')[0].replace('', 'b') == ''", text.len() / 2));
    }
}

#[test]
fn every_signature_has_a_function() {
    let value = |of: &str| match of.trim() {
        "null" => "null".to_owned(),
        "bool" => "true".to_owned(),
        "uint" => "1u".to_owned(),
        "double" => "1.5".to_owned(),
        "string" => "'1'".to_owned(),
        "bytes" => "b'1'".to_owned(),
        "duration" => "duration('1s')".to_owned(),
        "timestamp" => "timestamp('2024-01-01T00:00:00Z')".to_owned(),
        "url" => "url('https://a')".to_owned(),
        "quantity" => "quantity('1')".to_owned(),
        "ip" => "ip('::1')".to_owned(),
        "cidr" => "cidr('::1/128')".to_owned(),
        "format" => "format.uri()".to_owned(),
        "int" | "A" | "B" => "1".to_owned(),
        "list(A)" | "list(int)" | "list(dyn)" => "[1, 1]".to_owned(),
        "list(uint)" => "[1u]".to_owned(),
        "list(double)" => "[1.5]".to_owned(),
        "list(string)" => "['1']".to_owned(),
        "list(duration)" => "[duration('1s')]".to_owned(),
        "map(A, B)" => "{1: 1}".to_owned(),
        "optional(A)" => "optional.of(1)".to_owned(),
        "optional(list(A))" => "optional.of([1, 1])".to_owned(),
        "optional(map(A, B))" => "optional.of({1: 1})".to_owned(),
        other => panic!("no example of {other}"),
    };
    for signature in signatures::ALL.lines().filter(|line| !line.is_empty()) {
        let (name, method, args, _) = signatures::read(signature);
        let types = types::Type::read_all(&args);
        let mut shown: Vec<String> = types
            .iter()
            .map(|of| of.to_string().replace("google.protobuf.", "").to_lowercase())
            .map(|of| {
                of.replace("kubernetes.", "").replace("net.", "").replace("namedformat", "format")
            })
            .map(|of| of.replace("optional_type", "optional"))
            .map(|of| of.replace("(a)", "(A)").replace("(a, b)", "(A, B)"))
            .map(|of| value(if of == "a" { "A" } else { &of }))
            .collect();
        if shown.len() == 2 && name.starts_with("get") {
            shown[1] = "'UTC'".to_owned();
        }
        let examples = [
            ("duration", "'1s'"),
            ("timestamp", "'2024-01-01T00:00:00Z'"),
            ("ip", "'::1'"),
            ("cidr", "'::1/128'"),
            ("url", "'/a'"),
            ("bool", "'true'"),
            ("containsIP", "'::1'"),
            ("containsCIDR", "'::1/128'"),
            ("ip.isCanonical", "'::1'"),
        ];
        for (function, example) in examples.into_iter().filter(|(function, _)| *function == name) {
            let _ = function;
            if let Some(text) = shown.iter_mut().find(|text| **text == "'1'") {
                *text = example.to_owned();
            }
        }
        let call = match (name.as_str(), shown.as_slice()) {
            (name @ ("!_" | "-_"), [one]) => format!("{}({one})", &name[..1]),
            ("@in", [one, other]) => format!("{one} in {other}"),
            ("_[_]", [one, other]) => format!("{one}[{other}]"),
            ("_[?_]", [one, other]) => format!("{one}[?{other}]"),
            (name, [one, other]) if name.starts_with('_') => {
                format!("{one} {} {other}", name.trim_matches('_'))
            }
            (name, [receiver, rest @ ..]) if method => {
                format!("({receiver}).{name}({})", rest.join(", "))
            }
            (name, args) => format!("{name}({})", args.join(", ")),
        };
        // that there is a value is enough, whatever it is
        let told = told(&format!("type({call}) == type({call})"));
        assert_eq!(told, "true", "{signature}: {call}");
    }
}

#[test]
fn what_was_before_may_be_optional() {
    let (declared, now, before) = (Declared::of(Kind::Int), json!(2), json!(1));
    for (rule, optional_old, old, expected) in [
        ("self > oldSelf", false, Some(&before), true),
        ("oldSelf.hasValue() ? self > oldSelf.value() : self == 2", true, Some(&before), true),
        ("oldSelf.hasValue() ? self > oldSelf.value() : self == 2", true, None, true),
        ("self == oldSelf.orValue(self)", true, Some(&before), false),
    ] {
        let program =
            Program::compile(rule, &declared, optional_old, Wanted::Bool, &mut { 64 << 20 })
                .unwrap();
        assert!(program.uses_old_self);
        let subject = Subject { declared: &declared, value: &now, old, optional_old };
        assert_eq!(program.holds(subject, &Budget::new(STEPS)), Ok(expected), "{rule}");
    }
    let message = Program::compile(
        "'%d is too many'.format([self])",
        &declared,
        false,
        Wanted::String,
        &mut { 64 << 20 },
    )
    .unwrap();
    let subject = Subject { declared: &declared, value: &now, old: None, optional_old: false };
    assert_eq!(message.message(subject, &Budget::new(STEPS)).unwrap(), "2 is too many");
}
