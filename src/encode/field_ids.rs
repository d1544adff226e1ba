//! Parquet schemas with field ids, as the Iceberg specification wants them (its appendix A, Parquet): readers find
//! columns by id, timestamps say whether they are instants, and decimals are integers as far as they fit.

use std::sync::Arc;

use ::parquet::basic::{LogicalType, Repetition, TimeUnit, Type as Physical};
use ::parquet::schema::types::{Type, TypePtr};
use anyhow::Context as _;

use crate::schema::DataType;

/// The Parquet field id of a column and those of its parts: an array's element, or a struct's members in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldId {
    /// The id.
    pub id: i32,
    /// Of what it consists.
    pub parts: Vec<FieldId>,
}

/// The type of a column with its ids.
pub(super) fn identified(plain: &Type, data_type: &DataType, id: &FieldId) -> anyhow::Result<TypePtr> {
    let name = plain.name();
    let built = match data_type {
        DataType::Struct(fields) => {
            let members = plain.get_fields().iter().zip(fields).enumerate();
            let members = members
                .map(|(at, (member, field))| identified(member, &field.data_type, part(id, at)?))
                .collect::<anyhow::Result<Vec<_>>>()?;
            let group = Type::group_type_builder(name).with_repetition(Repetition::OPTIONAL);
            group.with_id(Some(id.id)).with_fields(members).build()?
        }
        DataType::Array(element) => {
            let list = plain.get_fields().first().context("a list has no middle")?;
            let inner = list.get_fields().first().context("a list has no element")?;
            let element = identified(inner, element, part(id, 0)?)?;
            let list = Type::group_type_builder(list.name()).with_repetition(Repetition::REPEATED);
            let list = Arc::new(list.with_fields(vec![element]).build()?);
            let group = Type::group_type_builder(name).with_repetition(Repetition::OPTIONAL);
            group.with_logical_type(Some(LogicalType::List)).with_id(Some(id.id)).with_fields(vec![list]).build()?
        }
        DataType::Decimal { precision, scale } if *precision <= 18 => {
            let physical = if *precision <= 9 { Physical::INT32 } else { Physical::INT64 };
            let (precision, scale) = (i32::from(*precision), i32::from(*scale));
            Type::primitive_type_builder(name, physical)
                .with_repetition(Repetition::OPTIONAL)
                .with_precision(precision)
                .with_scale(scale)
                .with_logical_type(Some(LogicalType::Decimal { scale, precision }))
                .with_id(Some(id.id))
                .build()?
        }
        DataType::Timestamp { zoned } => Type::primitive_type_builder(name, Physical::INT64)
            .with_repetition(Repetition::OPTIONAL)
            .with_logical_type(Some(LogicalType::Timestamp { is_adjusted_to_u_t_c: *zoned, unit: TimeUnit::MICROS }))
            .with_id(Some(id.id))
            .build()?,
        _ => {
            let Type::PrimitiveType { physical_type, type_length, precision, scale, basic_info } = plain else {
                anyhow::bail!("a group stands for a scalar");
            };
            Type::primitive_type_builder(name, *physical_type)
                .with_repetition(Repetition::OPTIONAL)
                .with_length(*type_length)
                .with_precision(*precision)
                .with_scale(*scale)
                .with_logical_type(basic_info.logical_type_ref().cloned())
                .with_id(Some(id.id))
                .build()?
        }
    };
    Ok(Arc::new(built))
}

fn part(id: &FieldId, at: usize) -> anyhow::Result<&FieldId> {
    id.parts.get(at).with_context(|| format!("part {at} of column {} has no id", id.id))
}
