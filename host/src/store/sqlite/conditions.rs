//! Filters, permissions and orders as SQL on the table `documents`.
//!
//! Everything that a client can choose is bound or written as a [`literal`], which is nothing but digits. The SQL must say the
//! same as [`Filter::matches`] and must not be able to fail, whatever the field is called and whatever the documents hold.
//!
//! SQLite takes an expression for that of an index only when both are written alike. So fields stand in a query as JSON paths in
//! literals, and when a query has fields, so do the tenant and the collection, of which alone an index is.
//!
//! Values are compared as pairs of their kind ([`Kind`]) and what SQLite makes of them. Numbers of the filter go through
//! SQLite's JSON parser like those of the documents, because it does not round all of them as Rust does.

use serde_json::Value;
use sqlx::{QueryBuilder, Sqlite};

use crate::{
    filter::{self, Clause, Field, Filter, Kind, Order, Test},
    identity::Identity,
    permissions::Scope,
};

/// A statement that is being put together.
pub type Sql = QueryBuilder<'static, Sqlite>;

/// The documents of a collection that `who` may have something done with.
pub fn push_documents(sql: &mut Sql, who: &Identity, collection: &str, scope: Scope) {
    sql.push("documents.tenant = ").push_bind(who.tenant.to_string());
    sql.push(" and documents.collection = ").push_bind(collection.to_owned());
    push_scope(sql, who, scope);
}

/// … that match, for a query that may sort by a field. `indexed` are fields that have an index.
pub fn push_matching(
    sql: &mut Sql,
    who: &Identity,
    (collection, indexed): (&str, &[String]),
    scope: Scope,
    filter: &Filter,
    sort: Option<&Field>,
) {
    if filter.clauses().is_empty() && sort.is_none() {
        return push_documents(sql, who, collection, scope);
    }
    let place = in_collection(&who.tenant, collection);
    sql.push(&place);
    push_scope(sql, who, scope);
    push_filter(sql, &place, indexed, filter);
}

/// What says that a document is in this collection, in queries and in indexes alike.
fn in_collection(tenant: &str, collection: &str) -> String {
    format!("tenant = {} and collection = {}", literal(tenant), literal(collection))
}

/// What makes an index for a field of a collection. It begins with the tenant and the collection, although it is of these alone:
/// so SQLite, which does not know how many documents there are, finds it at least as good as others for every query.
pub fn index(name: &str, tenant: &str, collection: &str, field: &Field) -> String {
    let mut sql = Sql::new(format!("create index if not exists {name} on documents (tenant, collection, "));
    push_kind(&mut sql, field);
    sql.push(", ");
    push_value(&mut sql, field);
    sql.push(format_args!(") where {}", in_collection(tenant, collection)));
    sql.into_sql()
}

/// A text as SQL.
pub fn literal(text: &str) -> String {
    format!("cast(x'{}' as text)", hex::encode(text))
}

/// … and not more of them than this.
pub fn push_scope(sql: &mut Sql, who: &Identity, scope: Scope) {
    match scope {
        Scope::Everything => {}
        Scope::Nothing => {
            sql.push(" and false");
        }
        Scope::Account | Scope::Own => {
            sql.push(" and documents.account = ").push_bind(who.account.clone());
        }
    }
    if scope == Scope::Own {
        sql.push(" and documents.owner = ").push_bind(who.user.clone());
    }
}

/// … and not more of them than match.
fn push_filter(sql: &mut Sql, place: &str, indexed: &[String], filter: &Filter) {
    for Clause { field, test } in filter.clauses() {
        sql.push(" and ");
        match test {
            Test::Equal(value) => push_comparison(sql, field, "=", value),
            Test::NotEqual(value) => {
                sql.push("not ");
                push_comparison(sql, field, "=", value);
            }
            Test::Ordered(order, value) if filter::is_ordered(value) => {
                push_comparison(sql, field, operator(*order), value);
            }
            Test::Ordered(..) => {
                sql.push("false");
            }
            Test::In(list) if indexed.contains(&field.name()) => push_in_by_index(sql, place, field, list),
            Test::In(list) => push_in(sql, field, list),
            Test::NotIn(list) => {
                sql.push("not ");
                push_in(sql, field, list);
            }
        }
    }
}

/// Expressions to order by.
pub fn push_order_keys(sql: &mut Sql, field: &Field) {
    push_kind(sql, field);
    sql.push(" as kind, ");
    push_value(sql, field);
    sql.push(" as value");
}

fn push_comparison(sql: &mut Sql, field: &Field, operator: &str, value: &Value) {
    sql.push("(");
    push_kind(sql, field);
    sql.push(format_args!(" = {} and ", Kind::of(value) as u8));
    push_value(sql, field);
    sql.push(format_args!(" {operator} coalesce(")).push_bind(value.to_string()).push(" ->> '$', ''))");
}

/// The field itself, or an element of the array it is, is in the list.
fn push_in(sql: &mut Sql, field: &Field, list: &[Value]) {
    sql.push("((");
    push_kind(sql, field);
    sql.push(", ");
    push_value(sql, field);
    sql.push(") in ");
    push_list(sql, list);
    sql.push(" or ");
    push_has_element(sql, field, list);
    sql.push(")");
}

/// The same as a search for the values of each kind, since SQLite would not use the index of the field otherwise. Without an
/// index each of them would go through the whole collection.
fn push_in_by_index(sql: &mut Sql, place: &str, field: &Field, list: &[Value]) {
    sql.push("seq in (");
    for kind in [Kind::Null, Kind::Boolean, Kind::Number, Kind::Text, Kind::Composite] {
        let values: Vec<&Value> = list.iter().filter(|value| Kind::of(value) == kind).collect();
        if values.is_empty() {
            continue;
        }
        sql.push(format_args!("select seq from documents where {place} and "));
        push_kind(sql, field);
        sql.push(format_args!(" = {} and ", kind as u8));
        push_value(sql, field);
        sql.push(" in (select coalesce(value, '') from json_each(").push_bind(serde_json::json!(values).to_string());
        sql.push(")) union all ");
    }
    sql.push(format_args!("select seq from documents where {place} and "));
    push_has_element(sql, field, list);
    sql.push(")");
}

/// The field is an array with an element that is in the list.
fn push_has_element(sql: &mut Sql, field: &Field, list: &[Value]) {
    sql.push("(");
    push_kind(sql, field);
    sql.push(format_args!(" = {} and ", Kind::Composite as u8));
    push_located(sql, "json_type", field);
    sql.push(" = 'array' and exists (select 1 from ");
    push_located(sql, "json_each", field);
    sql.push(format_args!(" as element where ({}, coalesce(element.value, '')) in ", kind_of_type("element.type")));
    push_list(sql, list);
    sql.push("))");
}

/// The kinds and values of a list.
fn push_list(sql: &mut Sql, list: &[Value]) {
    sql.push(format_args!("(select {}, coalesce(value, '') from json_each(", kind_of_type("type")));
    sql.push_bind(Value::from(list).to_string()).push("))");
}

fn push_kind(sql: &mut Sql, field: &Field) {
    sql.push("case ");
    push_located(sql, "json_type", field);
    sql.push(KINDS);
}

fn kind_of_type(column: &str) -> String {
    format!("case {column}{KINDS}")
}

/// The numbers of [`Kind`] for SQLite's types of JSON.
const KINDS: &str = " when 'true' then 1 when 'false' then 1 when 'integer' then 2 when 'real' then 2 when 'text' then 3 \
                     when 'array' then 4 when 'object' then 4 else 0 end";

/// Null would make comparisons neither true nor false.
fn push_value(sql: &mut Sql, field: &Field) {
    sql.push("coalesce(");
    push_located(sql, "json_extract", field);
    sql.push(", '')");
}

/// `function(json, path)` for a field.
fn push_located(sql: &mut Sql, function: &str, field: &Field) {
    sql.push(function).push("(");
    let path = push_json(sql, field.parts());
    sql.push(format_args!(", {})", literal(&path)));
}

/// The JSON in which a field is looked up; returns the path to it from there.
///
/// A path alone says for each part whether it is a key or an index. What looks like an index may also be a key, and which it is
/// can differ from document to document, so both are tried: at most one of them is there. The document itself is no array.
fn push_json(sql: &mut Sql, parts: &[String]) -> String {
    let last_index = parts.iter().rposition(|part| filter::index(part).is_some()).filter(|at| *at > 0);
    let Some(at) = last_index else {
        sql.push("body");
        return keys(parts);
    };
    sql.push("(select coalesce(whole -> ").push(literal(&format!("$[{}]", parts[at])));
    sql.push(", whole -> ").push(literal(&keys(&parts[at..=at])));
    sql.push(") from (select ");
    let path = push_json(sql, &parts[..at]);
    sql.push(" -> ").push(literal(&path)).push(" as whole))");
    keys(&parts[at + 1..])
}

/// A path of keys. What would end a quoted key is written as JSON may write it.
fn keys(parts: &[String]) -> String {
    let quoted = |part: &String| format!(r#"."{}""#, part.replace('\\', r"\u005c").replace('"', r"\u0022"));
    format!("${}", parts.iter().map(quoted).collect::<String>())
}

fn operator(order: Order) -> &'static str {
    match order {
        Order::Greater => ">",
        Order::Less => "<",
        Order::GreaterOrEqual => ">=",
        Order::LessOrEqual => "<=",
    }
}
