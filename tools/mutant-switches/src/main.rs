//! Puts many mutants into one copy of the sources, each behind a switch: a mutant schema (Untch, Offutt and Harrold,
//! "Mutation analysis using mutant schemata", 1993). One build has them all, and an environment variable says which
//! one a process has.
//!
//! Usage: mutant-switches MUTANTS TREE < NUMBERS
//!
//! MUTANTS is what `cargo mutants --list --json` prints; a mutant's number is its place in it. The files of TREE are
//! rewritten with those whose numbers are read, one a line. The numbers that got a switch are printed; the others do not
//! compile: beside `let` in a condition there is no `||`.

use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::fmt::Write as _;
use std::io::Read;
use std::ops::Range;
use std::path::Path;

use proc_macro2::LineColumn;
use serde_json::Value;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Arm, Block, Expr, ExprBinary, ExprStruct, ExprUnary, ImplItemFn, ItemFn, TraitItemFn};

/// Where a mutant begins: what kind it is, and its line and column from 1.
type Start = (String, usize, usize);

/// The mutants that begin at one place: their numbers, and what stands there instead.
type Wanted = HashMap<Start, Vec<(usize, String)>>;

/// What stands in the place of a stretch of the source, or before it.
struct Edit {
    range: Range<usize>,
    kind: Kind,
}

enum Kind {
    /// A function that returns something else; the range is empty.
    Return(Vec<(usize, String)>),
    /// An expression in other forms; after the name of a field where that name alone was the expression.
    Forms {
        named: Option<String>,
        forms: Vec<(usize, String)>,
    },
    /// An arm of a match that is not taken; the range is its guard's, or empty behind its pattern.
    Arm { number: usize, guarded: bool },
}

/// The edits of one file.
struct Edits<'a> {
    source: &'a str,
    wanted: &'a Wanted,
    found: Vec<Edit>,
}

impl Edits<'_> {
    fn at(&self, kind: &str, start: LineColumn) -> Vec<(usize, String)> {
        let start = (kind.to_owned(), start.line, start.column + 1);
        self.wanted.get(&start).cloned().unwrap_or_default()
    }

    fn text(&self, of: &impl Spanned) -> &str {
        &self.source[of.span().byte_range()]
    }

    fn add(&mut self, range: Range<usize>, kind: Kind) {
        self.found.push(Edit { range, kind });
    }

    fn forms(&mut self, of: &impl Spanned, forms: Vec<(usize, String)>) {
        let named = None;
        self.add(of.span().byte_range(), Kind::Forms { named, forms });
    }

    fn function(&mut self, block: &Block) {
        let Some(first) = block.stmts.first() else {
            return; // nothing to take away
        };
        let values = self.at("FnValue", first.span().start());
        if !values.is_empty() {
            let body = block.brace_token.span.open().byte_range().end;
            self.add(body..body, Kind::Return(values));
        }
    }
}

impl<'ast> Visit<'ast> for Edits<'_> {
    fn visit_item_fn(&mut self, item: &'ast ItemFn) {
        self.function(&item.block);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast ImplItemFn) {
        self.function(&item.block);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast TraitItemFn) {
        if let Some(block) = &item.default {
            self.function(block);
        }
        visit::visit_trait_item_fn(self, item);
    }

    fn visit_expr_binary(&mut self, binary: &'ast ExprBinary) {
        let operators = self.at("BinaryOperator", binary.op.span().start());
        if !operators.is_empty() && !binds(&binary.left) && !binds(&binary.right) {
            let (left, right) = (self.text(&*binary.left), self.text(&*binary.right));
            let forms = operators
                .into_iter()
                .map(|(number, operator)| (number, format!("{left} {operator} {right}")))
                .collect();
            self.forms(binary, forms);
        }
        visit::visit_expr_binary(self, binary);
    }

    fn visit_expr_unary(&mut self, unary: &'ast ExprUnary) {
        if let Some((number, _)) = self.at("UnaryOperator", unary.op.span().start()).first() {
            let without = self.text(&*unary.expr).to_owned();
            self.forms(unary, vec![(*number, without)]);
        }
        visit::visit_expr_unary(self, unary);
    }

    fn visit_arm(&mut self, arm: &'ast Arm) {
        let guard = arm.guard.as_ref().map(|(_, guard)| &**guard);
        let binding = guard.is_some_and(binds);
        if let Some((number, _)) = self.at("MatchArm", arm.span().start()).first()
            && !binding
        {
            let end = arm.pat.span().byte_range().end;
            let range = guard.map_or(end..end, |guard| guard.span().byte_range());
            let guarded = guard.is_some();
            self.add(
                range,
                Kind::Arm {
                    number: *number,
                    guarded,
                },
            );
        }
        if let Some(guard) = guard
            && !binding
        {
            let values = self.at("MatchArmGuard", guard.span().start());
            if !values.is_empty() {
                self.forms(guard, values);
            }
        }
        visit::visit_arm(self, arm);
    }

    fn visit_expr_struct(&mut self, built: &'ast ExprStruct) {
        for field in &built.fields {
            let numbers = self.at("StructField", field.span().start());
            if let Some((number, _)) = numbers.first()
                && let Some(rest) = &built.rest
            {
                let member = self.text(&field.member).to_owned();
                let form = format!("({}).{member}", self.text(&**rest));
                let named = field.colon_token.is_none().then_some(member);
                let forms = vec![(*number, form)];
                self.add(field.expr.span().byte_range(), Kind::Forms { named, forms });
            }
        }
        visit::visit_expr_struct(self, built);
    }
}

/// Whether an expression is one that binds, such as `let Some(x) = y`, which stands in a condition only.
fn binds(expression: &Expr) -> bool {
    match expression {
        Expr::Let(_) => true,
        Expr::Binary(binary) => binds(&binary.left) || binds(&binary.right),
        Expr::Paren(inside) => binds(&inside.expr),
        _ => false,
    }
}

/// The source between two places with the edits that lie there; these are sorted, the outer ones first.
fn rewritten(
    source: &str,
    range: Range<usize>,
    edits: &[Edit],
    switched: &mut Vec<usize>,
) -> String {
    let mut text = String::new();
    let (mut at, mut next) = (range.start, 0);
    while let Some(edit) = edits.get(next) {
        let inside = edits[next + 1..]
            .iter()
            .take_while(|each| each.range.end <= edit.range.end && !edit.range.is_empty())
            .count();
        let inner = &edits[next + 1..=next + inside];
        next += 1 + inside;
        text.push_str(&source[at..edit.range.start]);
        at = edit.range.end;
        let kept = rewritten(source, edit.range.clone(), inner, switched);
        match &edit.kind {
            Kind::Return(values) => {
                for (number, value) in values {
                    let _ = write!(
                        text,
                        "\nif crate::mutant::is({number}) {{\nreturn {value};\n}}\n"
                    );
                    switched.push(*number);
                }
            }
            Kind::Forms { named, forms } => {
                if let Some(name) = named {
                    let _ = write!(text, "{name}: ");
                }
                text.push('(');
                for (number, form) in forms {
                    let _ = write!(
                        text,
                        "\nif crate::mutant::is({number}) {{\n{form}\n}} else "
                    );
                    switched.push(*number);
                }
                let _ = write!(text, "{{\n{kept}\n}})");
            }
            Kind::Arm { number, guarded } => {
                let _ = match guarded {
                    true => write!(text, "\n!crate::mutant::is({number})\n && ({kept})"),
                    false => write!(text, "\nif !crate::mutant::is({number})\n"),
                };
                switched.push(*number);
            }
        }
    }
    text.push_str(&source[at..range.end]);
    text
}

/// A source with these mutants, and the numbers of those that have a switch in it.
fn with_switches(source: &str, wanted: &Wanted) -> syn::Result<(String, Vec<usize>)> {
    let mut edits = Edits {
        source,
        wanted,
        found: Vec::new(),
    };
    edits.visit_file(&syn::parse_file(source)?);
    let mut found = edits.found;
    // A stable sort: a guard is found before the expression that it is.
    found.sort_by_key(|edit| (edit.range.start, std::cmp::Reverse(edit.range.end)));
    let mut switched = Vec::new();
    let text = rewritten(source, 0..source.len(), &found, &mut switched);
    Ok((text, switched))
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, mutants, tree] = &*arguments else {
        return Err("usage: mutant-switches MUTANTS TREE < NUMBERS".into());
    };
    let listed = std::fs::read_to_string(mutants)?;
    let listed: Vec<Value> = serde_json::from_str(&listed)?;
    let mut numbers = String::new();
    std::io::stdin().read_to_string(&mut numbers)?;
    let mut files: BTreeMap<&str, Wanted> = BTreeMap::new();
    for number in numbers.lines() {
        let number: usize = number.parse()?;
        let mutant = listed.get(number).ok_or("there is no such mutant")?;
        let word = |name: &str| {
            mutant
                .pointer(name)
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        let place = |name: &str| {
            mutant
                .pointer(name)
                .and_then(Value::as_u64)
                .unwrap_or_default()
        };
        let (line, column) = (place("/span/start/line"), place("/span/start/column"));
        let start = (
            word("/genre").to_owned(),
            usize::try_from(line)?,
            usize::try_from(column)?,
        );
        let wanted = files.entry(word("/file")).or_default();
        let replacement = word("/replacement").to_owned();
        wanted.entry(start).or_default().push((number, replacement));
    }
    for (file, wanted) in &files {
        let path = Path::new(tree).join(file);
        let (text, switched) = with_switches(&std::fs::read_to_string(&path)?, wanted)?;
        std::fs::write(&path, text)?;
        for number in switched {
            println!("{number}");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The source with these mutants, on one line.
    fn switched(source: &str, mutants: &[(&str, usize, usize, &str)]) -> String {
        let mut wanted = Wanted::new();
        for (number, (kind, line, column, replacement)) in mutants.iter().enumerate() {
            let start = ((*kind).to_owned(), *line, *column);
            let each = (number, (*replacement).to_owned());
            wanted.entry(start).or_default().push(each);
        }
        let (text, switched) = with_switches(source, &wanted).unwrap();
        assert_eq!(switched.len(), mutants.len(), "{text}");
        syn::parse_file(&text).unwrap();
        let words: Vec<&str> = text.split_whitespace().collect();
        words
            .join(" ")
            .replace("crate::mutant::is", "is")
            .replace("( if", "(if")
    }

    #[test]
    fn a_function_returns_something_else() {
        let source = "fn f() -> u8 {\n    1\n}";
        let mutants = [("FnValue", 2, 5, "0"), ("FnValue", 2, 5, "7")];
        let expected = "fn f() -> u8 { if is(0) { return 0; } if is(1) { return 7; } 1 }";
        assert_eq!(switched(source, &mutants), expected);
    }

    #[test]
    fn an_operator_inside_another_has_a_switch_of_its_own() {
        let source = "fn f(a: u8) -> bool { a + 1 < 3 && !g(a) }";
        let mutants = [
            ("BinaryOperator", 1, 33, "||"),
            ("BinaryOperator", 1, 29, "<="),
            ("BinaryOperator", 1, 25, "-"),
            ("UnaryOperator", 1, 36, ""),
        ];
        let plus = "(if is(2) { a - 1 } else { a + 1 })";
        let less = format!("(if is(1) {{ a + 1 <= 3 }} else {{ {plus} < 3 }})");
        let not = "(if is(3) { g(a) } else { !g(a) })";
        let and = format!("(if is(0) {{ a + 1 < 3 || !g(a) }} else {{ {less} && {not} }})");
        let expected = format!("fn f(a: u8) -> bool {{ {and} }}");
        assert_eq!(switched(source, &mutants), expected);
    }

    #[test]
    fn an_arm_is_not_taken_with_its_guard_and_without_one() {
        let source = "fn f(a: u8) -> u8 { match a {\n1 => 2,\nb if b > 3 => 4,\n_ => 5 } }";
        let mutants = [
            ("MatchArm", 2, 1, ""),
            ("MatchArm", 3, 1, ""),
            ("MatchArmGuard", 3, 6, "true"),
            ("BinaryOperator", 3, 8, "<"),
        ];
        let guard = "(if is(2) { true } else { (if is(3) { b < 3 } else { b > 3 }) })";
        let expected = format!(
            "fn f(a: u8) -> u8 {{ match a {{ 1 if !is(0) => 2, b if !is(1) && ({guard}) => 4, _ => 5 }} }}"
        );
        assert_eq!(switched(source, &mutants), expected);
    }

    #[test]
    fn a_field_has_the_value_that_the_rest_gives_it() {
        let source = "fn f(a: u8) -> S {\nS { a, b: 2, ..S::new() }\n}";
        let mutants = [("StructField", 2, 5, ""), ("StructField", 2, 8, "")];
        let (a, b) = (
            "(if is(0) { (S::new()).a } else { a })",
            "(if is(1) { (S::new()).b } else { 2 })",
        );
        let expected = format!("fn f(a: u8) -> S {{ S {{ a: {a}, b: {b}, ..S::new() }} }}");
        assert_eq!(switched(source, &mutants), expected);
    }

    #[test]
    fn what_binds_has_no_other_form() {
        let source =
            "fn f(a: Option<u8>) -> bool { if let Some(b) = a && b > 1 { true } else { false } }";
        let mut wanted = Wanted::new();
        let start = ("BinaryOperator".to_owned(), 1, 50);
        wanted.insert(start, vec![(0, "||".to_owned())]);
        assert_eq!(
            with_switches(source, &wanted).unwrap(),
            (source.to_owned(), vec![])
        );
    }
}
