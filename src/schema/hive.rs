//! Types as the Glue catalog spells them.

use std::fmt::Write as _;

use super::{DataType, Field, FloatWidth, IntWidth, MAX_DEPTH};

/// The longest type the Glue catalog stores.
pub const MAX_TYPE_CHARS: usize = 131_072;

/// The Glue type of `data_type`.
#[must_use]
pub fn type_string(data_type: &DataType) -> String {
    let mut out = String::new();
    write_type(data_type, &mut out);
    out
}

fn write_type(data_type: &DataType, out: &mut String) {
    let plain = match data_type {
        DataType::Boolean => "boolean",
        DataType::Integer(IntWidth::I8) => "tinyint",
        DataType::Integer(IntWidth::I16) => "smallint",
        DataType::Integer(IntWidth::I32) => "int",
        DataType::Integer(IntWidth::I64) => "bigint",
        DataType::Number(FloatWidth::F32) => "float",
        DataType::Number(FloatWidth::F64) => "double",
        DataType::Date => "date",
        DataType::Timestamp { .. } => "timestamp",
        DataType::String { max_chars: None } | DataType::Time { .. } | DataType::TimeOfDay { .. } | DataType::Json => {
            "string"
        }
        // Writing to a `String` cannot fail.
        DataType::String { max_chars: Some(max) } => return write!(out, "varchar({max})").unwrap_or_default(),
        DataType::Decimal { precision, scale } => {
            return write!(out, "decimal({precision},{scale})").unwrap_or_default();
        }
        DataType::Array(element) => {
            out.push_str("array<");
            write_type(element, out);
            ">"
        }
        DataType::Struct(fields) => {
            out.push_str("struct<");
            for (i, field) in fields.iter().enumerate() {
                out.push_str(if i == 0 { "" } else { "," });
                out.push_str(&field.name);
                out.push(':');
                write_type(&field.data_type, out);
            }
            ">"
        }
    };
    out.push_str(plain);
}

/// The type that an existing table's column has, or `None` for types we cannot write: `binary`, `map`, `uniontype`,
/// intervals, and what is no type at all. The `source` of a struct's members is their stored name; the streams' own
/// keys come with [`merge`](super::merge::merge).
#[must_use]
pub fn parse(text: &str) -> Option<DataType> {
    let mut parser = Parser { rest: text };
    let data_type = parser.data_type(0)?;
    parser.skip_spaces();
    parser.rest.is_empty().then_some(data_type)
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn skip_spaces(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn eat(&mut self, token: char) -> Option<()> {
        self.skip_spaces();
        self.rest = self.rest.strip_prefix(token)?;
        Some(())
    }

    /// A name, plain or in backticks. Plain names of members may hold anything but the characters of the grammar.
    fn word(&mut self) -> Option<&'a str> {
        self.skip_spaces();
        if let Some(quoted) = self.rest.strip_prefix('`') {
            let (name, rest) = quoted.split_once('`')?;
            self.rest = rest;
            return Some(name);
        }
        let end = self.rest.find([':', ',', '<', '>', '(', ')']).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        let word = word.trim_end();
        (!word.is_empty()).then_some(word)
    }

    fn number<N: std::str::FromStr>(&mut self) -> Option<N> {
        self.word()?.parse().ok()
    }

    fn data_type(&mut self, depth: usize) -> Option<DataType> {
        if depth > MAX_DEPTH {
            return None;
        }
        let data_type = match self.word()?.to_ascii_lowercase().as_str() {
            "boolean" => DataType::Boolean,
            "tinyint" => DataType::Integer(IntWidth::I8),
            "smallint" => DataType::Integer(IntWidth::I16),
            "int" | "integer" => DataType::Integer(IntWidth::I32),
            "bigint" => DataType::Integer(IntWidth::I64),
            "float" | "real" => DataType::Number(FloatWidth::F32),
            "double" | "double precision" => DataType::Number(FloatWidth::F64),
            "string" => DataType::STRING,
            "date" => DataType::Date,
            "timestamp" => DataType::Timestamp { zoned: true },
            "varchar" | "char" => {
                self.eat('(')?;
                let max = self.number().filter(|max| *max > 0)?;
                self.eat(')')?;
                DataType::String { max_chars: Some(max) }
            }
            "decimal" | "numeric" => self.decimal()?,
            "array" => {
                self.eat('<')?;
                let element = self.data_type(depth + 1)?;
                self.eat('>')?;
                DataType::Array(Box::new(element))
            }
            "struct" => {
                self.eat('<')?;
                let mut fields = Vec::new();
                loop {
                    let name = self.word()?;
                    self.eat(':')?;
                    fields.push(Field::plain(name, self.data_type(depth + 1)?));
                    if self.eat(',').is_none() {
                        break;
                    }
                }
                self.eat('>')?;
                DataType::Struct(fields)
            }
            _ => return None,
        };
        Some(data_type)
    }

    /// `decimal`, `decimal(p)` or `decimal(p,s)`; Hive's defaults are 10 and 0.
    fn decimal(&mut self) -> Option<DataType> {
        let (mut precision, mut scale) = (10, 0);
        if self.eat('(').is_some() {
            precision = self.number()?;
            if self.eat(',').is_some() {
                scale = self.number()?;
            }
            self.eat(')')?;
        }
        ((1..=38).contains(&precision) && scale <= precision).then_some(DataType::Decimal { precision, scale })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_read_as_they_are_written() {
        for text in [
            "boolean",
            "tinyint",
            "smallint",
            "int",
            "bigint",
            "float",
            "double",
            "decimal(38,25)",
            "string",
            "varchar(12)",
            "date",
            "timestamp",
            "array<array<string>>",
            "struct<a:bigint,B_c:array<struct<x.y:date>>,1:decimal(9,2)>",
        ] {
            assert_eq!(parse(text).map(|t| type_string(&t)).as_deref(), Some(text));
        }
    }

    #[test]
    fn other_spellings_are_understood() {
        for (text, expected) in [
            ("INTEGER", "int"),
            (" Struct < A : Int , `b c`: ARRAY<Char(3)> > ", "struct<A:int,b c:array<varchar(3)>>"),
            ("decimal", "decimal(10,0)"),
            ("DECIMAL( 5 )", "decimal(5,0)"),
            ("decimal(5, 2)", "decimal(5,2)"),
        ] {
            assert_eq!(parse(text).map(|t| type_string(&t)).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_written_is_refused() {
        for text in [
            "",
            "binary",
            "map<string,int>",
            "struct<>",
            "struct<a:int",
            "array<int>>",
            "array<map<string,string>>",
            "decimal(39,1)",
            "decimal(3,4)",
            "varchar(0)",
            "int string",
            "uniontype<int,string>",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(parse(&"array<".repeat(100_000)), None);
    }
}
