//! Airbyte destination for AWS data lakes.

pub mod aws;
pub mod budget;
pub mod check;
pub mod claim;
pub mod cli;
pub mod config;
pub mod encode;
pub mod failure;
pub mod lake;
pub mod pipeline;
pub mod protocol;
pub mod schema;
pub mod stage;
