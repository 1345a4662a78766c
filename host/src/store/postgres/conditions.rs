//! Filters, permissions and orders as SQL on the table `documents`.
//!
//! Everything that a client can choose is bound, also the names of fields. The SQL must say the same as [`Filter::matches`] and
//! must not be able to fail, whatever the field is called and whatever the documents hold.
//!
//! Only what makes an index, in which nothing can be bound, has names as [`literal`]s, which are nothing but digits. Statements
//! with fields are planned anew each time, so Postgres knows what is bound and finds the index.
//!
//! Values are compared by what the functions `json_kind`, `json_number` and `json_text` (of the migrations) make of them. Numbers
//! of the filter go through the same function as those of the documents.

use std::fmt::Display;

use serde_json::Value;
use sqlx::{Arguments, Encode, Postgres, Type, postgres::PgArguments};

use super::Result;
use crate::{
    filter::{self, Clause, Field, Filter, Kind, Order, Test},
    identity::Identity,
    permissions::Scope,
};

/// Texts are compared by this many characters first, because an index holds no more of them.
pub const PREFIX: usize = 200;

/// A statement that is being put together, with what is bound in it.
#[derive(Default)]
pub struct Sql {
    text: String,
    arguments: PgArguments,
}

impl Sql {
    /// A statement that starts with this text, which no client has chosen.
    pub fn new(text: &str) -> Self {
        Self { text: text.to_owned(), arguments: PgArguments::default() }
    }

    /// Adds text, which no client has chosen.
    pub fn push(&mut self, text: impl Display) {
        self.text += &text.to_string();
    }

    /// Binds a value; returns how the statement calls it.
    pub fn bind(&mut self, value: impl Encode<'static, Postgres> + Type<Postgres> + 'static) -> Result<String> {
        self.arguments.add(value).map_err(sqlx::Error::Encode)?;
        Ok(format!("${}", self.arguments.len()))
    }

    /// The text, and what is bound in it.
    pub fn into_parts(self) -> (String, PgArguments) {
        (self.text, self.arguments)
    }
}

/// The documents of a collection that `who` may have something done with.
pub fn push_documents(sql: &mut Sql, who: &Identity, collection: &str, scope: Scope) -> Result<()> {
    let (tenant, collection) = (sql.bind(who.tenant.to_string())?, sql.bind(collection.to_owned())?);
    sql.push(format_args!("documents.tenant = {tenant} and documents.collection = {collection}"));
    push_scope(sql, who, scope)
}

/// What makes an index for a field of a collection, while others go on writing. The whole of a text does not fit into an index:
/// what has the same beginning is sorted when it is read.
pub fn index(name: &str, tenant: &str, collection: &str, field: &Field, concurrently: bool) -> String {
    let json = located("body", field, |part| format!("{}::text", literal(part)));
    let concurrently = if concurrently { "concurrently " } else { "" };
    format!(
        "create index {concurrently}{name} on documents (({}), ({}), ({})) where tenant = {} and collection = {}",
        kind(&json),
        number(&json),
        prefix(&json),
        literal(tenant),
        literal(collection)
    )
}

/// A text as SQL: by the numbers of its characters.
pub fn literal(text: &str) -> String {
    format!("U&'{}'", text.chars().map(|c| format!("\\+{:06x}", u32::from(c))).collect::<String>())
}

/// … and not more of them than this.
pub fn push_scope(sql: &mut Sql, who: &Identity, scope: Scope) -> Result<()> {
    match scope {
        Scope::Everything => {}
        Scope::Nothing => sql.push(" and false"),
        Scope::Account | Scope::Own => {
            let account = sql.bind(who.account.clone())?;
            sql.push(format_args!(" and documents.account = {account}"));
        }
    }
    if scope == Scope::Own {
        let owner = sql.bind(who.user.clone())?;
        sql.push(format_args!(" and documents.owner = {owner}"));
    }
    Ok(())
}

/// … that match.
pub fn push_filter(sql: &mut Sql, filter: &Filter) -> Result<()> {
    for Clause { field, test } in filter.clauses() {
        let field = self::field(sql, field)?;
        let condition = match test {
            Test::Equal(value) => comparison(sql, &field, "=", value)?,
            Test::NotEqual(value) => format!("not {}", comparison(sql, &field, "=", value)?),
            Test::Ordered(order, value) if filter::is_ordered(value) => {
                comparison(sql, &field, operator(*order), value)?
            }
            Test::Ordered(..) => "false".into(),
            Test::In(list) => is_in(sql, &field, list)?,
            Test::NotIn(list) => format!("not {}", is_in(sql, &field, list)?),
        };
        sql.push(format_args!(" and {condition}"));
    }
    Ok(())
}

/// What documents are sorted by: expressions in their order.
pub fn order_keys(sql: &mut Sql, field: &Field) -> Result<[String; 4]> {
    let field = self::field(sql, field)?;
    Ok([kind(&field), number(&field), prefix(&field), text(&field)])
}

/// A comparison of a JSON value with one of the filter. It is true or false, never null: within a kind there always is a number,
/// or always a text.
fn comparison(sql: &mut Sql, json: &str, operator: &str, value: &Value) -> Result<String> {
    let kind_is = format!("{} = {}", kind(json), Kind::of(value) as u8);
    Ok(match Kind::of(value) {
        Kind::Null => format!("({kind_is})"),
        Kind::Boolean | Kind::Number => {
            let other = sql.bind(value.to_string())?;
            format!("({kind_is} and {} {operator} json_number({other}::json))", number(json))
        }
        Kind::Text | Kind::Composite => {
            let other = text_of(value);
            let is_short = other.chars().nth(PREFIX - 1).is_none();
            let other = sql.bind(other)?;
            if is_short {
                // What is cut off of the longer ones decides nothing.
                format!("({kind_is} and {} {operator} {other})", prefix(json))
            } else {
                let or_equal = match operator {
                    ">" => ">=",
                    "<" => "<=",
                    same => same,
                };
                let first = format!("{} {or_equal} left({other}, {PREFIX})", prefix(json));
                format!("({kind_is} and {first} and {} {operator} {other})", text(json))
            }
        }
    })
}

/// The field itself, or an element of the array it is, is in the list.
fn is_in(sql: &mut Sql, json: &str, list: &[Value]) -> Result<String> {
    let of_kind = |wanted: &[Kind]| list.iter().filter(|value| wanted.contains(&Kind::of(value))).collect::<Vec<_>>();
    let texts = |values: Vec<&Value>| values.into_iter().map(text_of).collect::<Vec<_>>();
    let mut kinds: Vec<(Kind, String)> = Vec::new();
    for kind in [Kind::Boolean, Kind::Number, Kind::Text, Kind::Composite] {
        let values = of_kind(&[kind]);
        if values.is_empty() {
            continue;
        }
        let list = match kind {
            Kind::Boolean | Kind::Number => values.into_iter().map(Value::to_string).collect(),
            _ => texts(values),
        };
        kinds.push((kind, sql.bind(list)?));
    }
    let has_null = !of_kind(&[Kind::Null]).is_empty();
    let listed = |json: &str| {
        let null = has_null.then(|| format!("{} = 0", kind(json)));
        let others = kinds.iter().map(|(of, list)| {
            let kind_is = format!("{} = {}", kind(json), *of as u8);
            match of {
                Kind::Boolean | Kind::Number => {
                    let numbers =
                        format!("array(select json_number(value::json) from unnest({list}::text[]) as value)");
                    format!("{kind_is} and {} = any({numbers})", number(json))
                }
                _ => {
                    let prefixes = format!("array(select left(value, {PREFIX}) from unnest({list}::text[]) as value)");
                    format!("{kind_is} and {} = any({prefixes}) and {} = any({list}::text[])", prefix(json), text(json))
                }
            }
        });
        let any = null.into_iter().chain(others).map(|condition| format!("({condition})")).collect::<Vec<_>>();
        if any.is_empty() { "false".to_owned() } else { any.join(" or ") }
    };
    let elements = format!(
        "json_array_elements(case json_typeof({json}) when 'array' then {json} else '[]' end) as element (value)"
    );
    let is_composite = format!("{} = {}", kind(json), Kind::Composite as u8);
    Ok(format!(
        "({} or ({is_composite} and exists (select 1 from {elements} where {})))",
        listed(json),
        listed("element.value")
    ))
}

/// The JSON of a field; null when it is missing.
fn field(sql: &mut Sql, field: &Field) -> Result<String> {
    let places = field.parts().iter().map(|part| sql.bind(part.clone())).collect::<Result<Vec<_>>>()?;
    let mut places = places.into_iter();
    Ok(located("documents.body", field, |_| places.next().unwrap_or_default()))
}

/// The same with parts as they are called.
///
/// What looks like an index may also be a key, which `#>` finds as well. It takes more for an index than the filter does, hence
/// the other operator for everything that is none. The document itself is no array.
fn located(body: &str, field: &Field, mut called: impl FnMut(&str) -> String) -> String {
    let mut json = body.to_owned();
    for (depth, part) in field.parts().iter().enumerate() {
        let place = called(part);
        json = match filter::index(part) {
            Some(_) if depth > 0 => format!("({json} #> array[{place}])"),
            _ => format!("({json} -> {place})"),
        };
    }
    json
}

fn kind(json: &str) -> String {
    format!("json_kind({json})")
}

fn number(json: &str) -> String {
    format!("json_number({json})")
}

fn text(json: &str) -> String {
    format!(r#"json_text({json}) collate "C""#)
}

fn prefix(json: &str) -> String {
    format!(r#"left(json_text({json}), {PREFIX}) collate "C""#)
}

/// What `json_text` makes of a value.
fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        composite => composite.to_string(),
    }
}

fn operator(order: Order) -> &'static str {
    match order {
        Order::Greater => ">",
        Order::Less => "<",
        Order::GreaterOrEqual => ">=",
        Order::LessOrEqual => "<=",
    }
}
