//! Parses the values of options by their kind and checks them against their limits.

use std::ops::RangeInclusive;
use std::time::Duration;

use quote::ToTokens;
use syn::{Error, Expr, ExprLit, Lit, LitStr, Path, Result, UnOp};

use super::entry::Entry;
use super::{length, limits, suggest};

impl Entry {
    fn value(&self, example: &str) -> Result<&Expr> {
        let name = self.name();
        self.value.as_ref().map(ungroup).ok_or_else(|| {
            Error::new_spanned(&self.key, format!("`{name}` needs a value, such as `{name} = {example}`"))
        })
    }

    fn expected(&self, what: &str, example: &str) -> Error {
        let name = self.name();
        Error::new_spanned(&self.value, format!("`{name}` must be {what}, such as `{name} = {example}`"))
    }

    /// A literal whole number from `min` to `max`.
    pub(super) fn whole<T>(&self, min: T, max: T, example: &str) -> Result<T>
    where
        T: TryFrom<i128> + Into<i128>,
    {
        let (least, most) = (min.into(), max.into());
        let expected = || self.expected(&format!("a whole number from {least} to {most}"), example);
        let value = self.value(example)?;
        let (sign, literal) = sign(value);
        let Some(Lit::Int(digits)) = literal else { return Err(expected()) };
        let number = digits.base10_parse::<i128>().map_err(|_| expected())? * sign;
        if !is_number_suffix(digits.suffix()) || !(least..=most).contains(&number) {
            return Err(expected());
        }
        T::try_from(number).map_err(|_| expected())
    }

    /// A literal number in `range`.
    pub(super) fn number(&self, range: RangeInclusive<f64>, example: &str) -> Result<f64> {
        let (min, max) = (range.start(), range.end());
        let expected = || self.expected(&format!("a number from {min} to {max}"), example);
        let (sign, literal) = sign(self.value(example)?);
        let number: f64 = match literal {
            Some(Lit::Int(digits)) if is_number_suffix(digits.suffix()) => digits.base10_parse(),
            Some(Lit::Float(digits)) if is_number_suffix(digits.suffix()) => digits.base10_parse(),
            _ => return Err(expected()),
        }
        .map_err(|_| expected())?;
        let number = if sign < 0 { -number } else { number };
        if range.contains(&number) { Ok(number) } else { Err(expected()) }
    }

    /// A duration of at least `least`.
    pub(super) fn length(&self, least: Duration, example: &str) -> Result<Duration> {
        let name = self.name();
        let value = self.value(example)?;
        let wrong = |why: String| {
            Error::new_spanned(
                value,
                format!(
                    "`{name}` must be a length of time: {why}\nhelp: write it as `{name} = {example}`, or as a number of seconds"
                ),
            )
        };
        let length = match value {
            Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => length::from_text(&text.value()),
            Expr::Lit(ExprLit { lit: Lit::Int(digits), .. }) if is_number_suffix(digits.suffix()) => {
                length::from_seconds(digits.base10_digits())
            }
            Expr::Lit(ExprLit { lit: Lit::Float(digits), .. }) if is_number_suffix(digits.suffix()) => {
                length::from_seconds(digits.base10_digits())
            }
            Expr::Lit(ExprLit { lit: lit @ (Lit::Int(_) | Lit::Float(_)), .. }) => {
                Err(format!("put it in quotes: `\"{}\"`", lit.to_token_stream()))
            }
            Expr::Unary(minus) if matches!(minus.op, UnOp::Neg(_)) => Err("it is negative".to_owned()),
            _ => Err("this is neither a text nor a number".to_owned()),
        };
        match length {
            Ok(length) if length < least && length.is_zero() => Err(wrong("it is zero".to_owned())),
            Ok(length) if length < least => Err(wrong(format!("it is shorter than {least:?}"))),
            Ok(length) => Ok(length),
            Err(why) => Err(wrong(why)),
        }
    }

    /// `true`, `false`, or the option without a value, which means `true`.
    pub(super) fn flag(&self) -> Result<bool> {
        match self.value.as_ref().map(ungroup) {
            None => Ok(true),
            Some(Expr::Lit(ExprLit { lit: Lit::Bool(flag), .. })) => Ok(flag.value),
            Some(_) => Err(self.expected("`true` or `false`", "true")),
        }
    }

    /// A string literal.
    pub(super) fn text(&self, example: &str) -> Result<LitStr> {
        match self.value(example)? {
            Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Ok(text.clone()),
            _ => Err(self.expected("a text", example)),
        }
    }

    /// A string literal that is a valid name.
    pub(super) fn label(&self, example: &str) -> Result<String> {
        let text = self.text(example)?;
        checked_name(&text, &self.name())
    }

    /// A list of valid names.
    pub(super) fn labels(&self, example: &str) -> Result<Vec<LitStr>> {
        let Expr::Array(list) = self.value(example)? else {
            return Err(self.expected("a list of names", example));
        };
        let mut names = Vec::new();
        for item in &list.elems {
            let Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) = ungroup(item) else {
                return Err(Error::new_spanned(item, "expected a name in quotes"));
            };
            checked_name(text, &self.name())?;
            names.push(text.clone());
        }
        Ok(names)
    }

    /// A string literal that is one of `choices`.
    pub(super) fn choice<T: Copy>(&self, choices: &[(&str, T)]) -> Result<T> {
        let (name, words): (_, Vec<&str>) = (self.name(), choices.iter().map(|(word, _)| *word).collect());
        let example = format!("\"{}\"", words[0]);
        let text = self.text(&example)?;
        let found = choices.iter().find(|(word, _)| *word == text.value());
        found.map(|(_, choice)| *choice).ok_or_else(|| {
            let listed = words.iter().map(|word| format!("`\"{word}\"`")).collect::<Vec<_>>();
            let (last, others) = (&listed[listed.len() - 1], listed[..listed.len() - 1].join(", "));
            let hint = suggest::did_you_mean(&text.value(), words.iter().copied());
            Error::new(text.span(), format!("`{name}` must be {others} or {last}{hint}"))
        })
    }

    /// The path of an item.
    pub(super) fn path(&self, example: &str) -> Result<Path> {
        match self.value(example)? {
            Expr::Path(path) if path.qself.is_none() => Ok(path.path.clone()),
            _ => Err(self.expected("a path", example)),
        }
    }

    /// A list of paths of values.
    pub(super) fn paths(&self, example: &str) -> Result<Vec<Path>> {
        let Expr::Array(list) = self.value(example)? else {
            return Err(self.expected("a list of paths", example));
        };
        let path = |item| match ungroup(item) {
            Expr::Path(path) if path.path.segments.first().is_some_and(|first| first.ident == "Self") => {
                Err(Error::new_spanned(path, "`Self` has no meaning here: write the type's name"))
            }
            Expr::Path(path) if path.qself.is_none() => Ok(path.path.clone()),
            _ => Err(Error::new_spanned(item, "expected the path of a value: a unit struct or a `static`")),
        };
        list.elems.iter().map(path).collect()
    }

    /// The path of a function, qualified or not.
    pub(super) fn function(&self, example: &str) -> Result<Expr> {
        match self.value(example)? {
            Expr::Path(path) if path.path.segments.first().is_some_and(|first| first.ident == "Self") => {
                Err(Error::new_spanned(path, "`Self` has no meaning here: write the type's name"))
            }
            path @ Expr::Path(_) => Ok(path.clone()),
            _ => Err(self.expected("the path of a function `fn(&E) -> bool`", example)),
        }
    }
}

fn checked_name(text: &LitStr, option: &str) -> Result<String> {
    let name = text.value();
    let wrong = if name.is_empty() {
        "is empty"
    } else if name.trim() != name {
        "begins or ends with a blank"
    } else if name.chars().any(char::is_control) {
        "has a control character"
    } else if name.len() + 3 * name.matches('\u{2400}').count() > limits::WORD {
        "is longer than 1024 bytes"
    } else {
        return Ok(name);
    };
    Err(Error::new(text.span(), format!("this name in `{option}` {wrong}")))
}

/// The sign of a number (1 or -1) and its literal.
fn sign(value: &Expr) -> (i128, Option<&Lit>) {
    match value {
        Expr::Lit(literal) => (1, Some(&literal.lit)),
        Expr::Unary(minus) if matches!(minus.op, UnOp::Neg(_)) => {
            let (sign, literal) = sign(ungroup(&minus.expr));
            (-sign, literal)
        }
        _ => (1, None),
    }
}

/// Whether a suffix is a numeric type. Rust parses `3s` as a number with the suffix `s`.
fn is_number_suffix(suffix: &str) -> bool {
    suffix.is_empty() || suffix.starts_with(['i', 'u', 'f'])
}

/// Removes the invisible group that surrounds a `macro_rules!` fragment.
fn ungroup(mut value: &Expr) -> &Expr {
    while let Expr::Group(group) = value {
        value = &group.expr;
    }
    value
}
