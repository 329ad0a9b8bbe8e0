//! The functions there are, with the types that they take and give.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use super::types::Type;

/// One way to call a function.
#[derive(Debug)]
pub(super) struct Signature {
    /// The receiver is the first argument.
    pub method: bool,
    pub args: Vec<Type>,
    pub result: Type,
}

/// All of them: `receiver.name(arguments) result`. Operators have the names that they have in error messages.
/// Standard: <https://github.com/google/cel-spec/blob/master/doc/langdef.md#list-of-standard-definitions>;
/// the others: <https://kubernetes.io/docs/reference/using-api/cel/#cel-options-language-features-and-libraries>.
pub(super) const ALL: &str = "
!_(bool) bool
-_(int) int
-_(double) double
_==_(A, A) bool
_!=_(A, A) bool
_+_(int, int) int
_+_(uint, uint) uint
_+_(double, double) double
_+_(string, string) string
_+_(bytes, bytes) bytes
_+_(list(A), list(A)) list(A)
_+_(duration, duration) duration
_+_(timestamp, duration) timestamp
_+_(duration, timestamp) timestamp
_-_(int, int) int
_-_(uint, uint) uint
_-_(double, double) double
_-_(duration, duration) duration
_-_(timestamp, timestamp) duration
_-_(timestamp, duration) timestamp
_*_(int, int) int
_*_(uint, uint) uint
_*_(double, double) double
_/_(int, int) int
_/_(uint, uint) uint
_/_(double, double) double
_%_(int, int) int
_%_(uint, uint) uint
@in(A, list(A)) bool
@in(A, map(A, B)) bool
_[_](list(A), int) A
_[_](map(A, B), A) B
_[?_](list(A), int) optional(A)
_[?_](map(A, B), A) optional(B)
_[_](optional(list(A)), int) optional(A)
_[_](optional(map(A, B)), A) optional(B)
_[?_](optional(list(A)), int) optional(A)
_[?_](optional(map(A, B)), A) optional(B)
size(string) int
size(bytes) int
size(list(A)) int
size(map(A, B)) int
string.size() int
bytes.size() int
list(A).size() int
map(A, B).size() int
string.contains(string) bool
string.startsWith(string) bool
string.endsWith(string) bool
string.matches(string) bool
matches(string, string) bool
type(A) type
dyn(A) dyn
bool(bool) bool
bool(string) bool
bytes(bytes) bytes
bytes(string) bytes
double(double) double
double(int) double
double(uint) double
double(string) double
int(int) int
int(uint) int
int(double) int
int(string) int
int(timestamp) int
uint(uint) uint
uint(int) uint
uint(double) uint
uint(string) uint
string(string) string
string(bool) string
string(int) string
string(uint) string
string(double) string
string(bytes) string
string(timestamp) string
string(duration) string
string(ip) string
string(cidr) string
duration(duration) duration
duration(string) duration
timestamp(timestamp) timestamp
timestamp(string) timestamp
timestamp(int) timestamp
timestamp.getFullYear() int
timestamp.getFullYear(string) int
timestamp.getMonth() int
timestamp.getMonth(string) int
timestamp.getDate() int
timestamp.getDate(string) int
timestamp.getDayOfMonth() int
timestamp.getDayOfMonth(string) int
timestamp.getDayOfWeek() int
timestamp.getDayOfWeek(string) int
timestamp.getDayOfYear() int
timestamp.getDayOfYear(string) int
timestamp.getHours() int
timestamp.getHours(string) int
timestamp.getMinutes() int
timestamp.getMinutes(string) int
timestamp.getSeconds() int
timestamp.getSeconds(string) int
timestamp.getMilliseconds() int
timestamp.getMilliseconds(string) int
duration.getHours() int
duration.getMinutes() int
duration.getSeconds() int
duration.getMilliseconds() int
optional.of(A) optional(A)
optional.ofNonZeroValue(A) optional(A)
optional.none() optional(dyn)
optional(A).hasValue() bool
optional(A).value() A
optional(A).or(optional(A)) optional(A)
optional(A).orValue(A) A
string.charAt(int) string
string.indexOf(string) int
string.indexOf(string, int) int
string.lastIndexOf(string) int
string.lastIndexOf(string, int) int
list(string).join() string
list(string).join(string) string
string.lowerAscii() string
string.upperAscii() string
string.replace(string, string) string
string.replace(string, string, int) string
string.split(string) list(string)
string.split(string, int) list(string)
string.substring(int) string
string.substring(int, int) string
string.trim() string
string.format(list(dyn)) string
strings.quote(string) string
list(A).isSorted() bool
list(int).sum() int
list(uint).sum() uint
list(double).sum() double
list(duration).sum() duration
list(A).min() A
list(A).max() A
list(A).indexOf(A) int
list(A).lastIndexOf(A) int
sets.contains(list(A), list(A)) bool
sets.equivalent(list(A), list(A)) bool
sets.intersects(list(A), list(A)) bool
string.find(string) string
string.findAll(string) list(string)
string.findAll(string, int) list(string)
url(string) url
isURL(string) bool
url.getScheme() string
url.getHost() string
url.getHostname() string
url.getPort() string
url.getEscapedPath() string
url.getQuery() map(string,list(string))
quantity(string) quantity
isQuantity(string) bool
sign(quantity) int
quantity.sign() int
quantity.isInteger() bool
quantity.asInteger() int
quantity.asApproximateFloat() double
quantity.add(quantity) quantity
quantity.add(int) quantity
quantity.sub(quantity) quantity
quantity.sub(int) quantity
quantity.isLessThan(quantity) bool
quantity.isGreaterThan(quantity) bool
quantity.compareTo(quantity) int
ip(string) ip
isIP(string) bool
ip.isCanonical(string) bool
ip.family() int
ip.isUnspecified() bool
ip.isLoopback() bool
ip.isLinkLocalMulticast() bool
ip.isLinkLocalUnicast() bool
ip.isGlobalUnicast() bool
cidr(string) cidr
isCIDR(string) bool
cidr.containsIP(ip) bool
cidr.containsIP(string) bool
cidr.containsCIDR(cidr) bool
cidr.containsCIDR(string) bool
cidr.ip() ip
cidr.masked() cidr
cidr.prefixLength() int
format.named(string) optional(format)
format.dns1123Label() format
format.dns1123Subdomain() format
format.dns1035Label() format
format.dns1123LabelPrefix() format
format.dns1123SubdomainPrefix() format
format.dns1035LabelPrefix() format
format.qualifiedName() format
format.labelValue() format
format.uri() format
format.uuid() format
format.byte() format
format.date() format
format.datetime() format
format.validate(string) optional(list(string))
";

/// Functions whose names have a dot: what stands before it is no receiver.
const QUALIFIED: [&str; 5] =
    ["optional.of", "optional.none", "strings.", "sets.", "ip.isCanonical"];

/// The types of values that have an order.
pub(super) const ORDERED: [&str; 8] =
    ["bool", "int", "uint", "double", "string", "bytes", "duration", "timestamp"];

/// The ways to call a function; none: there is no such function.
pub(super) fn of(name: &str) -> &'static [Signature] {
    static KNOWN: OnceLock<BTreeMap<String, Vec<Signature>>> = OnceLock::new();
    let known = KNOWN.get_or_init(|| {
        let mut known: BTreeMap<String, Vec<Signature>> = BTreeMap::new();
        let mut add = |name: &str, method: bool, args: &str, result: &str| {
            let one = |text: &str| Type::read_all(text).pop().unwrap_or(Type::Dyn);
            let signature = Signature { method, args: Type::read_all(args), result: one(result) };
            known.entry(name.to_owned()).or_default().push(signature);
        };
        for line in ALL.lines().filter(|line| !line.is_empty()) {
            let (name, method, args, result) = read(line);
            add(&name, method, &args, result);
        }
        for name in ["_<_", "_<=_", "_>_", "_>=_"] {
            for ordered in ORDERED {
                add(name, false, &format!("{ordered}, {ordered}"), "bool");
            }
            let numbers = ["int", "uint", "double"];
            for (left, right) in numbers.iter().flat_map(|left| numbers.map(|right| (*left, right)))
            {
                if left != right {
                    add(name, false, &format!("{left}, {right}"), "bool");
                }
            }
        }
        known
    });
    known.get(name).map_or(&[], Vec::as_slice)
}

/// Name, whether it is a method, arguments with the receiver, result.
pub(super) fn read(line: &str) -> (String, bool, String, &str) {
    let (call, result) = line.rsplit_once(' ').unwrap_or((line, "dyn"));
    // the bracket that belongs to the last one: arguments may have brackets, too
    let mut depth = 0;
    let opens = call.char_indices().rev().find(|(_, sign)| {
        depth += match sign {
            ')' => 1,
            '(' => -1,
            _ => 0,
        };
        depth == 0
    });
    let opens = opens.map_or(0, |(at, _)| at);
    let (head, args) = (&call[..opens], &call[opens + 1..call.len() - 1]);
    let named_format = head.starts_with("format.") && head != "format.validate";
    if named_format || QUALIFIED.iter().any(|start| head.starts_with(start)) {
        return (head.to_owned(), false, args.to_owned(), result);
    }
    match head.rsplit_once('.') {
        Some((receiver, name)) => (name.to_owned(), true, format!("{receiver},{args}"), result),
        None => (head.to_owned(), false, args.to_owned(), result),
    }
}
