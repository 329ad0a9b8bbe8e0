//! Expressions × texts, as Go takes them.

use super::*;

fn compile(pattern: &str) -> Result<Compiled, String> {
    compile_within(pattern, &mut { TOGETHER })
}

#[test]
fn expressions_are_read_as_go_reads_them() {
    for (pattern, matched, others) in [
        ("^a+$", "aaa", &["b", "aab"][..]),
        // classes of Unicode
        (r"^\p{L}+$", "Größe", &["a1", ""]),
        (r"^\pL\pN$", "ж٣", &["a-"]),
        (r"^\p{Lu}\p{Ll}$", "Äü", &["äü", "AB"]),
        (r"^\p{Greek}+$", "Ωμ", &["a", "Ωa"]),
        (r"^\P{Greek}+$", "abc", &["Ω"]),
        (r"^\p{^Greek}+$", "abc", &["Ω"]),
        (r"^\P{^Greek}+$", "Ω", &["a"]),
        (r"^[\p{Han}\p{Hiragana}\-_0-9]+$", "漢字ひ-_1", &["a", "カ"]),
        (r"^[^\p{L}]+$", "12 -", &["a", "ß"]),
        (r"^[\P{L}x]+$", "1x", &["a"]),
        (r"^\p{Any}$", "\u{10FFFF}", &["ab"]),
        (r"^\p{Zl}$", "\u{2028}", &["a"]),
        (r"^[\p{Cs}a]$", "a", &["b"]),
        (r"^\p{Cs}?a$", "a", &["b"]),
        (r"^\P{Cs}$", "b", &[""]),
        (r"^\pC$", "\u{7}", &["a", "\u{378}"]),
        (r"^\p{Nko}|\p{Old_Italic}$", "\u{10300}", &["a"]),
        // letters are those of ASCII
        (r"^\w\d\s$", "a1 ", &["ä1 ", "a٣ ", "a1\u{b}"]),
        (r"^\W\D\S$", "äaä", &["aaa", "ä1a", "äa\n"]),
        (r"^[\W\D]$", "ä", &["1"]),
        (r"^[\S]$", "\u{b}", &[" "]),
        (r"^[[:alpha:][:^word:]]$", "-", &["1"]),
        // quoted, and other escapes
        (r"^\Qa.b[\E+$", "a.b[[", &["axb["]),
        (r"^a\Q.*", "a.*", &["abb"]),
        (r"^\x41\x{42}\103\0\a\f\v\_\<\/\-$", "ABC\0\u{7}\u{c}\u{b}_</-", &["ABC"]),
        (r"\Aa\z", "a", &["a\n", "ba"]),
        (r"\bfoo\b", "a foo.", &["afoo"]),
        // signs that stand for themselves
        ("^a{,2}$", "a{,2}", &["aa"]),
        ("^{a}[]a]}$", "{a}]}", &["a"]),
        ("^a{b$", "a{b", &["a"]),
        ("^[a&&b~~c[]$", "&", &["d"]),
        ("^[a-]$", "-", &["b"]),
        ("^[^a-c]]$", "d]", &["a]"]),
        ("^a{2,3}b{2}c{1,}$", "aabbcc", &["abbc", "aaaabbc"]),
        // groups and flags
        ("^(?i)AB(?-i)c$", "abc", &["abC"]),
        ("^(?s:.)(?:b)(?P<n>c)(?<m>d)$", "\nbcd", &["abcc"]),
        ("(?m)^b$", "a\nb\nc", &["ab"]),
        ("(?U)^a+$", "aa", &["b"]),
        ("^(?i)straße$", "STRAßE", &["x"]),
        ("^(a|b*?|c+?)d??$", "bb", &["x"]),
    ] {
        let compiled = compile(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"));
        assert!(compiled.regex.is_match(matched), "{pattern} {matched:?}");
        for other in others {
            assert!(!compiled.regex.is_match(other), "{pattern} {other:?}");
        }
    }
}

#[test]
fn what_go_refuses_is_refused_in_its_words() {
    for (pattern, expected) in [
        (r"\p{Grxxk}", r"invalid character class range: `\p{Grxxk}`"),
        (r"\p{greek}", r"invalid character class range: `\p{greek}`"),
        (r"\p{Letter}", r"invalid character class range: `\p{Letter}`"),
        (r"\p{Cn}", r"invalid character class range: `\p{Cn}`"),
        (r"\p{L", r"invalid character class range: `\p{L`"),
        (r"\p", r"invalid character class range: `\p`"),
        (r"\pq", r"invalid character class range: `\pq`"),
        (r"\C", r"invalid escape sequence: `\C`"),
        (r"\E", r"invalid escape sequence: `\E`"),
        (r"(a)\1", r"invalid escape sequence: `\1`"),
        (r"\u0041", r"invalid escape sequence: `\u`"),
        (r"\Z", r"invalid escape sequence: `\Z`"),
        (r"[\b]", r"invalid escape sequence: `\b`"),
        (r"\x{110000}", r"invalid escape sequence: `\x{110000}`"),
        ("a\\", "trailing backslash at end of expression: ``"),
        ("a**", "invalid nested repetition operator: `**`"),
        ("a*+", "invalid nested repetition operator: `*+`"),
        ("a+?{2}", "invalid nested repetition operator: `+?{2}`"),
        ("a{1001}", "invalid repeat count: `{1001}`"),
        ("a{3,2}", "invalid repeat count: `{3,2}`"),
        ("a{99999999999999999999999}", "invalid repeat count"),
        ("((a{100}){11})", "invalid repeat count: `{11}`"),
        ("(?=a)", "invalid or unsupported Perl syntax: `(?=`"),
        ("(?<!a)", "invalid or unsupported Perl syntax: `(?<`"),
        ("(?P<a-b>c)", "invalid named capture: `(?P<a-b>`"),
        ("(?<a", "invalid named capture: `(?<a`"),
        ("(?x)a", "invalid or unsupported Perl syntax: `(?x`"),
        ("(?i", "missing closing ): `(?i`"),
        ("[a", "missing closing ]: `[a`"),
        ("[b-a]", "invalid character class range: `b-a`"),
        ("[[:word]", ""),
        ("[[:words:]]", "invalid character class range: `[:words:]`"),
        ("(", ""),
        (")", ""),
        ("*", ""),
    ] {
        let told = compile(pattern).err();
        if pattern == "[[:word]" {
            // no class by name: its signs
            assert_eq!(told, None);
            continue;
        }
        let told = told.unwrap_or_else(|| panic!("{pattern} is taken"));
        assert!(told.starts_with("error parsing regexp: "), "{pattern}: {told}");
        assert!(told.contains(expected), "{pattern}: {told}");
    }
}

#[test]
fn any_expression_is_refused_or_ends() {
    use proptest::prelude::*;
    let pieces = proptest::sample::select(vec![
        "a",
        "ß",
        "\\",
        "[",
        "]",
        "^",
        "-",
        "(",
        ")",
        "?",
        "P<n>",
        ":",
        "*",
        "+",
        "{",
        "2",
        ",",
        "9",
        "}",
        "|",
        "p",
        "P",
        "L",
        "{Greek}",
        "Q",
        "E",
        "x",
        "{41}",
        "[:alpha:]",
        "&&",
        "i",
        "U",
        "d",
        "S",
        "b",
        ".",
        "$",
        "0",
    ]);
    let patterns = proptest::collection::vec(pieces, 0..14).prop_map(|pieces| pieces.concat());
    proptest!(ProptestConfig::with_cases(2_000), |(pattern in patterns)| {
        if let Ok(compiled) = compile(&pattern) {
            compiled.regex.is_match("aß2");
        }
    });
}

#[test]
fn sizes_are_told_and_bounded() {
    assert_eq!(compile("^a$").unwrap().size, SIZES[0]);
    assert!(compile(r"^\pL{1,63}$").unwrap().size <= 1 << 20);
    let told = compile(&r"\pL{1000}".repeat(2)).unwrap_err();
    assert!(told.contains("size"), "{told}");
    let began = std::time::Instant::now();
    assert!(compile(&"(a{1000})".repeat(10_000)).is_err());
    assert!(began.elapsed().as_secs() < 5);
}
