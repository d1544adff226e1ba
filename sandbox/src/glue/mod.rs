//! The Glue Data Catalog.

mod databases;
pub(crate) mod expression;
mod partitions;
mod tables;

use serde_json::{Value, json};

use crate::catalog::{Shape, invalid};
use crate::refusal::Refusal;
use crate::state::State;

/// Does what is asked; the input has passed the model.
pub(crate) fn perform(state: &State, operation: &str, input: &Shape) -> Result<Value, Refusal> {
    state.tick();
    match operation {
        "CreateDatabase" => databases::create(state, input),
        "GetDatabase" => databases::get(state, input),
        "GetDatabases" => databases::list(state, input),
        "DeleteDatabase" => databases::delete(state, input),
        "CreateTable" => tables::create(state, input),
        "GetTable" => tables::get(state, input),
        "GetTables" => tables::list(state, input),
        "GetTableVersions" => tables::versions(state, input),
        "UpdateTable" => tables::update(state, input),
        "DeleteTable" => tables::delete(state, input),
        "BatchDeleteTable" => tables::delete_many(state, input),
        "CreatePartition" => partitions::create(state, input),
        "BatchCreatePartition" => partitions::create_many(state, input),
        "GetPartition" => partitions::get(state, input),
        "GetPartitions" => partitions::list(state, input),
        "BatchGetPartition" => partitions::get_many(state, input),
        "UpdatePartition" => partitions::update(state, input),
        "BatchUpdatePartition" => partitions::update_many(state, input),
        "DeletePartition" => partitions::delete(state, input),
        "BatchDeletePartition" => partitions::delete_many(state, input),
        _ => Err(Refusal::new(400, "UnknownOperationException", format!("{operation} is not implemented"))),
    }
}

/// A member that is a string, or nothing.
pub(crate) fn text<'a>(input: &'a Shape, name: &str) -> &'a str {
    input.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// A name as the catalog stores it.
pub(crate) fn name(input: &Shape, member: &str) -> String {
    text(input, member).to_lowercase()
}

/// The transaction a request names. Reads of the past are not imitated.
pub(crate) fn transaction(input: &Shape) -> Result<Option<&str>, Refusal> {
    if input.contains_key("QueryAsOfTime") {
        return Err(invalid("The sandbox does not imitate QueryAsOfTime."));
    }
    Ok(input.get("TransactionId").and_then(Value::as_str))
}

/// A member that is a structure.
pub(crate) fn structure(input: &Shape, name: &str) -> Shape {
    input.get(name).and_then(Value::as_object).cloned().unwrap_or_default()
}

/// A member that is a list of structures.
pub(crate) fn structures<'a>(input: &'a Shape, name: &str) -> impl Iterator<Item = &'a Shape> {
    input.get(name).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object)
}

/// A member that is a list of strings.
pub(crate) fn strings(input: &Shape, name: &str) -> Vec<String> {
    let list = input.get(name).and_then(Value::as_array).into_iter().flatten();
    list.filter_map(Value::as_str).map(str::to_owned).collect()
}

/// A page of a list: what is on it, and the token of the next.
pub(crate) fn page<T>(input: &Shape, mut all: Vec<T>, default: usize) -> Result<(Vec<T>, Option<String>), Refusal> {
    let size = input.get("MaxResults").and_then(Value::as_u64).map_or(default, |size| size as usize).max(1);
    let start = match text(input, "NextToken") {
        "" => 0,
        token => token.parse::<usize>().map_err(|_| invalid("The NextToken is not one of this list."))?,
    };
    let mut rest = all.split_off(start.min(all.len()));
    let next = (rest.len() > size).then(|| (start + size).to_string());
    rest.truncate(size);
    Ok((rest, next))
}

/// An answer with a list and perhaps a token.
pub(crate) fn listed(member: &str, (list, next): (Vec<Value>, Option<String>)) -> Value {
    let mut answer = json!({ member: list });
    if let Some(next) = next {
        answer["NextToken"] = json!(next);
    }
    answer
}

/// An entry of `Errors`.
fn error_detail(refusal: &Refusal) -> Value {
    json!({ "ErrorCode": refusal.code, "ErrorMessage": refusal.message })
}

fn already_exists(message: impl Into<String>) -> Refusal {
    Refusal::new(400, "AlreadyExistsException", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages() -> Result<(), Refusal> {
        let mut input = Shape::new();
        input.insert("MaxResults".to_owned(), json!(2));
        let (first, next) = page(&input, vec![1, 2, 3], 100)?;
        assert_eq!((first, next.as_deref()), (vec![1, 2], Some("2")));
        input.insert("NextToken".to_owned(), json!("2"));
        assert_eq!(page(&input, vec![1, 2, 3], 100)?, (vec![3], None));
        Ok(())
    }
}
