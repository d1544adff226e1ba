//! Lake Formation: transactions, the objects of governed tables, LF tags.

mod objects;
mod tags;
mod transactions;

use serde_json::Value;

use crate::catalog::Shape;
use crate::refusal::Refusal;
use crate::state::State;

/// Does what is asked; the input has passed the model.
pub(crate) fn perform(state: &State, operation: &str, input: &Shape) -> Result<Value, Refusal> {
    state.tick();
    match operation {
        "StartTransaction" => transactions::start(state, input),
        "ExtendTransaction" => transactions::extend(state, input),
        "CommitTransaction" => transactions::commit(state, input),
        "CancelTransaction" => transactions::cancel(state, input),
        "DescribeTransaction" => transactions::describe(state, input),
        "ListTransactions" => transactions::list(state, input),
        "UpdateTableObjects" => objects::update(state, input),
        "GetTableObjects" => objects::list(state, input),
        "DeleteObjectsOnCancel" => objects::delete_on_cancel(state, input),
        "CreateLFTag" => tags::create(state, input),
        "GetLFTag" => tags::get(state, input),
        "ListLFTags" => tags::list(state, input),
        "AddLFTagsToResource" => tags::add(state, input),
        "GetResourceLFTags" => tags::of_resource(state, input),
        _ => Err(Refusal::new(404, "UnknownOperationException", format!("{operation} is not implemented"))),
    }
}
