//! `documents`: what a function keeps between calls.
//!
//! Every call works on the tenant and with the identity that the run has. A guest names neither, so it cannot name someone
//! else's.

use serde::Deserialize;
use serde_json::Value;
use wasmtime::Result;

use super::{Invocation, refuse, world::thimble::functions::documents::Host, world::thimble::functions::types::Error};
use crate::{
    document::{self, Content, MAX_PAGE_SIZE, PageRequest},
    documents::page_text,
    filter::Filter,
};

type Answer<T> = Result<std::result::Result<T, Error>>;

impl Host for Invocation {
    async fn create(&mut self, collection: String, document: String) -> Answer<String> {
        self.count_write(document.len())?;
        self.create_document(&collection, &document).await
    }

    async fn get(&mut self, collection: String, id: String) -> Answer<String> {
        self.count_read(0)?;
        let found = match &mut self.work {
            Some(work) => work.get(&collection, &id).await,
            None => self.services.documents.get(&self.call.identity, &collection, &id).await,
        };
        let found = self.answered(found)?;
        self.answer(found.map(|document| document.text.to_string()))
    }

    async fn list(&mut self, collection: String, options: String) -> Answer<String> {
        self.count_read(options.len())?;
        let page = self.page(&collection, None, &options).await?;
        self.answer(page)
    }

    async fn query(&mut self, collection: String, clauses: String, options: String) -> Answer<String> {
        self.count_read(clauses.len() + options.len())?;
        let page = self.page(&collection, Some(&clauses), &options).await?;
        self.answer(page)
    }

    async fn update(&mut self, collection: String, id: String, changes: String) -> Answer<String> {
        self.count_write(changes.len())?;
        let updated = self.update_document(&collection, &id, &changes).await?;
        if let Ok(document) = &updated {
            // The whole document is written, however small the change.
            self.count_written(document.len().saturating_sub(changes.len()))?;
        }
        Ok(updated)
    }

    async fn delete(&mut self, collection: String, id: String) -> Answer<u32> {
        self.count_write(0)?;
        let who = &self.call.identity;
        let deleted = match &mut self.work {
            Some(work) => work.delete(&collection, &id).await,
            None => self.services.documents.delete(who, &collection, &id, self.cause.clone()).await,
        };
        Ok(self.answered(deleted)?.map(u32::from).map_err(Error::from))
    }

    async fn increment(&mut self, collection: String, id: String, field: String, by: i64) -> Answer<String> {
        self.count_write(field.len())?;
        let (who, cause) = (&self.call.identity, self.cause.clone());
        let incremented = match &mut self.work {
            Some(work) => work.increment(&collection, &id, &field, by).await,
            None => self.services.documents.increment(who, &collection, &id, &field, by, cause).await,
        };
        let incremented = self.answered(incremented)?;
        if let Ok(document) = &incremented {
            self.count_written(document.text.len().saturating_sub(field.len()))?;
        }
        Ok(incremented.map(|document| document.text.to_string()).map_err(Error::from))
    }

    async fn count(&mut self, collection: String, clauses: String) -> Answer<u64> {
        self.count_read(clauses.len())?;
        let filter = match json(&clauses, "the clauses").and_then(|clauses| Ok(Filter::parse(&clauses)?)) {
            Ok(filter) => filter,
            Err(error) => return Ok(Err(error)),
        };
        let count = match &mut self.work {
            Some(work) => work.count(&collection, &filter).await,
            None => self.services.documents.count(&self.call.identity, &collection, &filter).await,
        };
        Ok(self.answered(count)?.map(i64::unsigned_abs).map_err(Error::from))
    }
}

impl Invocation {
    async fn create_document(&mut self, collection: &str, text: &str) -> Answer<String> {
        let content = match document(text) {
            Ok(content) => content,
            Err(error) => return Ok(Err(error)),
        };
        let (who, cause) = (&self.call.identity, self.cause.clone());
        let created = match &mut self.work {
            Some(work) => work.create(collection, &content).await,
            None => self.services.documents.create(who, collection, content, cause).await,
        };
        Ok(self.answered(created)?.map(|document| document.text.to_string()).map_err(Error::from))
    }

    async fn update_document(&mut self, collection: &str, id: &str, text: &str) -> Answer<String> {
        let changes = match document(text) {
            Ok(changes) => changes,
            Err(error) => return Ok(Err(error)),
        };
        let (who, cause) = (&self.call.identity, self.cause.clone());
        let updated = match &mut self.work {
            Some(work) => work.update(collection, id, changes).await,
            None => self.services.documents.update(who, collection, id, changes, cause).await,
        };
        Ok(self.answered(updated)?.map(|document| document.text.to_string()).map_err(Error::from))
    }

    async fn page(&mut self, collection: &str, clauses: Option<&str>, options: &str) -> Answer<String> {
        let (filter, request) = match search(clauses, options) {
            Ok(search) => search,
            Err(error) => return Ok(Err(error)),
        };
        let page = match &mut self.work {
            Some(work) => work.list(collection, &filter, &request).await,
            None => self.services.documents.list(&self.call.identity, collection, &filter, &request).await,
        };
        Ok(self.answered(page)?.map(|page| page_text(&page)).map_err(Error::from))
    }

    /// Charges for what goes back to the guest.
    fn answer<E: Into<Error>>(&mut self, answer: std::result::Result<String, E>) -> Answer<String> {
        if let Ok(text) = &answer {
            self.charge_fuel(text.len())?;
        }
        Ok(answer.map_err(Into::into))
    }
}

/// Reads a document; what is far too large is not parsed, which could not be interrupted.
fn document(text: &str) -> std::result::Result<Content, Error> {
    if text.len() > 2 * document::MAX_BYTES {
        return Err(refuse(
            "too-large",
            format!("a document has at most {} bytes; this one has {}", document::MAX_BYTES, text.len()),
        ));
    }
    Ok(Content::parse(text.as_bytes())?)
}

/// The options of `list` and `query`, as their documentation names them; unknown ones are ignored.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Options {
    page: Option<f64>,
    size: Option<f64>,
    sort_by: Option<String>,
    sort_descending: bool,
}

fn search(clauses: Option<&str>, options: &str) -> std::result::Result<(Filter, PageRequest), Error> {
    let request = page_request(options)?;
    let filter = match clauses {
        None => Filter::all(),
        Some(clauses) => Filter::parse(&json(clauses, "the clauses")?)?,
    };
    Ok((filter, request))
}

fn page_request(options: &str) -> std::result::Result<PageRequest, Error> {
    let options: Options = match json(options, "the options")? {
        Value::Null => Options::default(),
        options => serde_json::from_value(options)
            .map_err(|error| refuse("invalid", format!("the options cannot be used: {error}")))?,
    };
    let default = PageRequest::default();
    // What is not a sensible number is the default, as over HTTP.
    let whole = |number: Option<f64>, default: u32| match number {
        Some(number) if number >= 1.0 => number.min(f64::from(u32::MAX)) as u32,
        _ => default,
    };
    Ok(PageRequest {
        page: whole(options.page, default.page),
        size: whole(options.size, default.size).min(MAX_PAGE_SIZE),
        sort: options.sort_by.filter(|field| !field.is_empty()),
        descending: options.sort_descending,
    })
}

fn json(text: &str, what: &str) -> std::result::Result<Value, Error> {
    if text.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_str(text).map_err(|error| refuse("invalid", format!("{what} are not JSON: {error}")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CODES: [&str; 2] = ["invalid", "too-large"];

    /// What a guest passes as options, clauses and a document is used or refused with a code and a sentence.
    fn read(text: &str) {
        match page_request(text) {
            Ok(page) => assert!(page.page >= 1 && (1..=MAX_PAGE_SIZE).contains(&page.size), "{text}: {page:?}"),
            Err(error) => {
                assert!(CODES.contains(&error.code.as_str()) && !error.message.is_empty(), "{text}: {error:?}")
            }
        }
        for error in [document(text).err(), json(text, "the clauses").err()].into_iter().flatten() {
            assert!(CODES.contains(&error.code.as_str()) && !error.message.is_empty(), "{text}: {error:?}");
        }
    }

    #[test]
    fn what_is_in_the_corpus_is_used_or_refused() {
        let texts = ["options", "filters", "documents"].into_iter().flat_map(crate::corpus::texts);
        texts.for_each(|(_, text)| read(&text));
        let mails = crate::corpus::texts("mails");
        assert!(mails.iter().any(|(_, text)| serde_json::from_str::<crate::mail::MailMessage>(text).is_ok()));
    }

    proptest! {
        #[test]
        fn any_text_is_used_or_refused(text in ".*") {
            read(&text);
        }

        #[test]
        fn any_options_are_used_or_refused(page in any::<f64>(), size in any::<f64>(), sort in ".*", down in any::<bool>()) {
            let options = serde_json::json!({ "page": page, "size": size, "sortBy": sort, "sortDescending": down });
            read(&options.to_string());
        }
    }
}
