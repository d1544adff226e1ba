//! Filters over partition values: `=`, `<>`, `<`, `>`, `<=`, `>=`, `IN`, `BETWEEN`, `AND`, `OR`, parentheses.

use std::cmp::Ordering;

use crate::catalog::invalid;
use crate::refusal::Refusal;

/// A filter that has been understood.
#[derive(Debug, PartialEq)]
pub(crate) enum Expression {
    Compare { key: usize, numeric: bool, accepts: Accepts, value: String },
    All(Vec<Expression>),
    Any(Vec<Expression>),
}

/// Which results of a comparison hold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Accepts {
    less: bool,
    equal: bool,
    greater: bool,
}

impl Accepts {
    fn operator(text: &str) -> Option<Self> {
        let accepts = |less, equal, greater| Some(Self { less, equal, greater });
        match text {
            "=" | "==" => accepts(false, true, false),
            "<>" | "!=" => accepts(true, false, true),
            "<" => accepts(true, false, false),
            "<=" => accepts(true, true, false),
            ">" => accepts(false, false, true),
            ">=" => accepts(false, true, true),
            _ => None,
        }
    }
}

impl Expression {
    /// Reads a filter over partition keys, given by name and type.
    pub(crate) fn parse(text: &str, keys: &[(&str, &str)]) -> Result<Self, Refusal> {
        let refuse = || invalid(format!("The expression {text} is not supported."));
        let mut parser = Parser { tokens: tokens(text).ok_or_else(refuse)?, at: 0, keys };
        let expression = parser.any().ok_or_else(refuse)?;
        if parser.at == parser.tokens.len() { Ok(expression) } else { Err(refuse()) }
    }

    /// Whether it holds for the values of a partition.
    pub(crate) fn holds(&self, values: &[String]) -> bool {
        match self {
            Self::All(parts) => parts.iter().all(|part| part.holds(values)),
            Self::Any(parts) => parts.iter().any(|part| part.holds(values)),
            Self::Compare { key, numeric, accepts, value } => {
                let Some(found) = values.get(*key) else { return false };
                let order = if *numeric {
                    match (found.parse::<f64>(), value.parse::<f64>()) {
                        (Ok(found), Ok(value)) => found.total_cmp(&value),
                        _ => return false,
                    }
                } else {
                    found.cmp(value)
                };
                match order {
                    Ordering::Less => accepts.less,
                    Ordering::Equal => accepts.equal,
                    Ordering::Greater => accepts.greater,
                }
            }
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    /// A name, a number or a keyword.
    Word(String),
    Text(String),
    Sign(String),
}

fn tokens(text: &str) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '\'' => {
                let mut value = String::new();
                let mut characters = rest.char_indices().skip(1).peekable();
                let end = loop {
                    match characters.next()? {
                        (_, '\'') if characters.peek().is_some_and(|(_, next)| *next == '\'') => {
                            characters.next();
                            value.push('\'');
                        }
                        (at, '\'') => break at + 1,
                        (_, other) => value.push(other),
                    }
                };
                tokens.push(Token::Text(value));
                end
            }
            '=' | '<' | '>' | '!' => {
                let end = rest.find(|next| !matches!(next, '=' | '<' | '>' | '!')).unwrap_or(rest.len());
                tokens.push(Token::Sign(rest[..end].to_owned()));
                end
            }
            '(' | ')' | ',' => {
                tokens.push(Token::Sign(first.to_string()));
                1
            }
            '`' | '"' => {
                let end = rest[1..].find(first)? + 1;
                tokens.push(Token::Word(rest[1..end].to_owned()));
                end + 1
            }
            _ => {
                let ends = |next: char| next.is_whitespace() || "=<>!(),'".contains(next);
                let end = rest.find(ends).unwrap_or(rest.len());
                tokens.push(Token::Word(rest[..end].to_owned()));
                end
            }
        };
        rest = rest[length..].trim_start();
    }
    Some(tokens)
}

struct Parser<'a> {
    tokens: Vec<Token>,
    at: usize,
    keys: &'a [(&'a str, &'a str)],
}

impl Parser<'_> {
    fn next(&mut self) -> Option<Token> {
        let token = self.tokens.get(self.at)?.clone();
        self.at += 1;
        Some(token)
    }

    fn takes_keyword(&mut self, keyword: &str) -> bool {
        let found = matches!(self.tokens.get(self.at), Some(Token::Word(word)) if word.eq_ignore_ascii_case(keyword));
        self.at += usize::from(found);
        found
    }

    fn takes_sign(&mut self, sign: &str) -> bool {
        let found = matches!(self.tokens.get(self.at), Some(Token::Sign(found)) if found == sign);
        self.at += usize::from(found);
        found
    }

    fn any(&mut self) -> Option<Expression> {
        let mut parts = vec![self.all()?];
        while self.takes_keyword("OR") {
            parts.push(self.all()?);
        }
        Some(Expression::Any(parts))
    }

    fn all(&mut self) -> Option<Expression> {
        let mut parts = vec![self.comparison()?];
        while self.takes_keyword("AND") {
            parts.push(self.comparison()?);
        }
        Some(Expression::All(parts))
    }

    fn value(&mut self) -> Option<String> {
        match self.next()? {
            Token::Word(value) | Token::Text(value) => Some(value),
            Token::Sign(_) => None,
        }
    }

    fn comparison(&mut self) -> Option<Expression> {
        if self.takes_sign("(") {
            let inner = self.any()?;
            return self.takes_sign(")").then_some(inner);
        }
        let Token::Word(name) = self.next()? else { return None };
        let key = self.keys.iter().position(|(key, _)| key.eq_ignore_ascii_case(&name))?;
        let kind = self.keys.get(key)?.1.to_lowercase();
        let numeric = ["int", "integer", "bigint", "long", "smallint", "tinyint", "double", "float", "decimal"]
            .iter()
            .any(|number| kind.starts_with(number));
        let compare =
            |sign, value| Some(Expression::Compare { key, numeric, accepts: Accepts::operator(sign)?, value });
        if self.takes_keyword("IN") {
            let mut choices = Vec::new();
            if !self.takes_sign("(") {
                return None;
            }
            loop {
                choices.push(compare("=", self.value()?)?);
                if !self.takes_sign(",") {
                    return self.takes_sign(")").then_some(Expression::Any(choices));
                }
            }
        }
        if self.takes_keyword("BETWEEN") {
            let low = compare(">=", self.value()?)?;
            return self
                .takes_keyword("AND")
                .then(|| Some(Expression::All(vec![low, compare("<=", self.value()?)?])))?;
        }
        let Token::Sign(sign) = self.next()? else { return None };
        compare(&sign, self.value()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters() -> Result<(), Refusal> {
        let keys = [("year", "bigint"), ("day", "string")];
        let holds = |text: &str| {
            let values = ["2024".to_owned(), "it's".to_owned()];
            Expression::parse(text, &keys).map(|expression| expression.holds(&values))
        };
        for text in [
            "year = 2024",
            "year='2024' AND day = 'it''s'",
            "year > 999 and (day = 'x' or day <> 'y')",
            "year IN (1, 2024)",
            "year BETWEEN 2000 AND 2030 AND day >= 'a'",
        ] {
            assert!(holds(text)?, "{text}");
        }
        assert!(!holds("year < 2024")?);
        for text in ["month = 1", "year =", "year = 1 AND", "'x' = 1"] {
            assert!(holds(text).is_err(), "{text}");
        }
        Ok(())
    }
}
