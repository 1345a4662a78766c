//! Filters, permissions and orders as SQL on the table `documents`.
//!
//! Everything that a client can choose is bound, also the names of fields: they are bound as JSON paths. The SQL must say the
//! same as [`Filter::matches`] and must not be able to fail, whatever the field is called and whatever the documents hold.
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

/// … that match.
pub fn push_filter(sql: &mut Sql, filter: &Filter) {
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
    let list = Value::from(list).to_string();
    let push_list = |sql: &mut Sql| {
        sql.push(format_args!("(select {}, coalesce(value, '') from json_each(", kind_of_type("type")));
        sql.push_bind(list.clone()).push("))");
    };
    sql.push("((");
    push_kind(sql, field);
    sql.push(", ");
    push_value(sql, field);
    sql.push(") in ");
    push_list(sql);
    sql.push(" or (");
    push_located(sql, "json_type", field);
    sql.push(" = 'array' and exists (select 1 from ");
    push_located(sql, "json_each", field);
    sql.push(format_args!(" as element where ({}, coalesce(element.value, '')) in ", kind_of_type("element.type")));
    push_list(sql);
    sql.push(")))");
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
    sql.push(", ").push_bind(path).push(")");
}

/// The JSON in which a field is looked up; returns the path to it from there.
///
/// A path alone says for each part whether it is a key or an index. What looks like an index may also be a key, and which it is
/// can differ from document to document, so both are tried: at most one of them is there. The document itself is no array.
fn push_json(sql: &mut Sql, parts: &[String]) -> String {
    let last_index = parts.iter().rposition(|part| filter::index(part).is_some()).filter(|at| *at > 0);
    let Some(at) = last_index else {
        sql.push("documents.body");
        return keys(parts);
    };
    sql.push("(select coalesce(whole -> ").push_bind(format!("$[{}]", parts[at]));
    sql.push(", whole -> ").push_bind(keys(&parts[at..=at]));
    sql.push(") from (select ");
    let path = push_json(sql, &parts[..at]);
    sql.push(" -> ").push_bind(path).push(" as whole))");
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
