//! Which functions there are, and which of them wait for a message.
//!
//! Kept in memory beside the store, so that an event costs no query; a change swaps one entry, so that every call sees
//! either the old version or the new one.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use crate::{
    function::{self, Function, Settings, Upload, Version},
    hooks,
    listeners::{Listeners, Matched, matched},
    message::{MAX_NAME, Message},
    runtime::{Runtime, Uploaded, compile::UploadError},
    store::{NewCode, NewVersion, Store, StoreError, exchange::Outline},
    usage::Usage,
};

/// Why a function could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The name cannot be used, and why.
    #[error("{0}")]
    Name(String),
    /// The trigger cannot be used, and why.
    #[error("{0}")]
    Trigger(String),
    /// No function has that name or id.
    #[error("function `{0}` not found")]
    Unknown(String),
    /// The function has no such version.
    #[error("function `{name}` has no version {version}: it has {have}")]
    UnknownVersion {
        /// The function.
        name: String,
        /// What was asked for.
        version: i64,
        /// What there is, in words.
        have: String,
    },
    /// The tenant has as many functions as it may have.
    #[error("this app has {0} functions, and may not have more; the operator raises the limit with `tenant.functions`")]
    TooMany(usize),
    /// The code was refused.
    #[error(transparent)]
    Upload(#[from] UploadError),
    /// The store refused or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A function after a change, and what its top level logged while it was evaluated.
#[derive(Debug)]
pub struct Deployed {
    /// The function as it is now.
    pub function: Arc<Function>,
    /// Log of the top level.
    pub log: Vec<String>,
}

/// The functions of all tenants. Cheap to clone.
#[derive(Clone)]
pub struct Registry(Arc<Inner>);

struct Inner {
    store: Arc<dyn Store>,
    runtime: Runtime,
    usage: Usage,
    functions: RwLock<HashMap<String, Tenant>>,
    listeners: Listeners,
    /// One change at a time, so that what is in memory is what was stored last.
    changing: tokio::sync::Mutex<()>,
}

/// Functions of one tenant by name.
type Tenant = HashMap<String, Arc<Function>>;

type Result<T> = std::result::Result<T, RegistryError>;

impl Registry {
    /// Loads all functions of the store.
    pub async fn load(
        store: Arc<dyn Store>,
        runtime: Runtime,
        usage: Usage,
        listeners: Listeners,
    ) -> std::result::Result<Self, StoreError> {
        let mut functions: HashMap<String, Tenant> = HashMap::new();
        for function in store.all_functions().await? {
            listeners.set(&function);
            functions.entry(function.tenant.clone()).or_default().insert(function.name.clone(), Arc::new(function));
        }
        let changing = tokio::sync::Mutex::new(());
        let registry =
            Self(Arc::new(Inner { store, runtime, usage, functions: RwLock::new(functions), listeners, changing }));
        // What a crash or a refused upload left behind.
        let unused = registry.0.store.unused_hashes(registry.0.runtime.kept()).await?;
        registry.0.runtime.sweep(unused).await;
        Ok(registry)
    }

    /// A function by name.
    pub fn get(&self, tenant: &str, name: &str) -> Option<Arc<Function>> {
        let functions = self.0.functions.read().unwrap_or_else(PoisonError::into_inner);
        functions.get(tenant)?.get(name).cloned()
    }

    /// How many functions a tenant has.
    pub fn count(&self, tenant: &str) -> usize {
        let functions = self.0.functions.read().unwrap_or_else(PoisonError::into_inner);
        functions.get(tenant).map_or(0, HashMap::len)
    }

    /// A function as it is now; `None` when it was deleted.
    pub fn current(&self, function: &Function) -> Option<Arc<Function>> {
        self.get(&function.tenant, &function.name).filter(|current| current.id == function.id)
    }

    /// A function by id.
    pub fn by_id(&self, tenant: &str, id: &str) -> Option<Arc<Function>> {
        let functions = self.0.functions.read().unwrap_or_else(PoisonError::into_inner);
        functions.get(tenant)?.values().find(|function| function.id == id).cloned()
    }

    /// Functions that wait for a message, in the order of their names.
    pub fn listening(&self, tenant: &str, message: &Message) -> Vec<(Arc<Function>, Matched)> {
        let functions = self.0.functions.read().unwrap_or_else(PoisonError::into_inner);
        let Some(tenant) = functions.get(tenant) else { return Vec::new() };
        let mut listening: Vec<_> = tenant
            .values()
            .filter_map(|function| {
                Some((function.clone(), matched(&function.trigger, &message.channel, &message.kind)?))
            })
            .collect();
        listening.sort_by(|(one, _), (two, _)| one.name.cmp(&two.name));
        listening
    }

    /// A function by name, also when another node has added it just now.
    pub async fn find(&self, tenant: &str, name: &str) -> Option<Arc<Function>> {
        let known = self.get(tenant, name);
        if known.is_some() || self.0.store.exchange().is_none_or(|exchange| exchange.is_alone()) {
            return known;
        }
        if let Err(error) = self.refresh(tenant).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "it is not known which functions there are");
        }
        self.get(tenant, name)
    }

    /// Takes over what other nodes have changed of a tenant's functions.
    pub async fn refresh(&self, tenant: &str) -> Result<()> {
        let Some(exchange) = self.0.store.exchange() else { return Ok(()) };
        let (this, tenant) = (self.clone(), tenant.to_owned());
        whole(async move {
            let _changing = this.0.changing.lock().await;
            let outlines = exchange.outlines(&tenant).await?;
            this.drop_others(&tenant, &outlines).await;
            for outline in outlines {
                let is_known = this.get(&tenant, &outline.name).is_some_and(|known| is_as(&known, &outline));
                if !is_known && let Some(function) = this.0.store.function_by_id(&tenant, &outline.id).await? {
                    this.set(function);
                }
            }
            Ok(())
        })
        .await
    }

    /// Forgets the functions that are not among these.
    async fn drop_others(&self, tenant: &str, outlines: &[Outline]) {
        let ids: HashSet<&str> = outlines.iter().map(|outline| outline.id.as_str()).collect();
        let gone: Vec<Arc<Function>> = {
            let mut functions = self.0.functions.write().unwrap_or_else(PoisonError::into_inner);
            let Some(functions) = functions.get_mut(tenant) else { return };
            let gone = functions.values().filter(|function| !ids.contains(function.id.as_str())).cloned().collect();
            functions.retain(|_, function| ids.contains(function.id.as_str()));
            gone
        };
        for function in &gone {
            self.0.listeners.remove(&function.tenant, &function.id);
            self.0.usage.forget(&function.tenant, &function.id);
        }
        self.forget(gone.iter().map(|function| function.version.hash.clone()).collect()).await;
    }

    /// Adds a function. It runs from the moment this returns.
    pub async fn add(
        &self,
        tenant: &Arc<str>,
        name: &str,
        trigger: &str,
        upload: Upload,
        settings: Settings,
    ) -> Result<Deployed> {
        if let Some(error) = function::name_error(name) {
            return Err(RegistryError::Name(error));
        }
        check_trigger(trigger)?;
        self.refresh(tenant).await?;
        if self.get(tenant, name).is_some() {
            return Err(StoreError::NameTaken(name.into()).into());
        }
        self.check_room(tenant)?;
        let (version, log) = self.upload(tenant, name, upload, settings).await?;
        let (this, tenant, name, trigger) = (self.clone(), tenant.clone(), name.to_owned(), trigger.to_owned());
        let function = whole(async move {
            let _changing = this.0.changing.lock().await;
            // Again: others may have been added while this one was compiled.
            this.check_room(&tenant)?;
            Ok(this.set(this.0.store.add_function(&tenant, &name, &trigger, version).await?))
        });
        Ok(Deployed { function: function.await?, log })
    }

    fn check_room(&self, tenant: &str) -> Result<()> {
        let most = self.0.usage.of_tenant(tenant).functions;
        if self.count(tenant) < most { Ok(()) } else { Err(RegistryError::TooMany(most)) }
    }

    /// Adds the next version of a function, and forgets old ones beyond the number that is kept; without `trigger` it keeps its
    /// own.
    pub async fn update(
        &self,
        tenant: &Arc<str>,
        name: &str,
        trigger: Option<&str>,
        upload: Upload,
        settings: Settings,
    ) -> Result<Deployed> {
        let unknown = || RegistryError::Unknown(name.into());
        self.refresh(tenant).await?;
        let current = self.get(tenant, name).ok_or_else(unknown)?;
        let trigger = trigger.filter(|trigger| !trigger.is_empty()).unwrap_or(&current.trigger);
        check_trigger(trigger)?;
        let (version, log) = self.upload(tenant, name, upload, settings).await?;
        let (this, tenant, trigger) = (self.clone(), tenant.clone(), trigger.to_owned());
        let function = whole(async move {
            let _changing = this.0.changing.lock().await;
            let function = this.0.store.add_version(&tenant, &current.id, &trigger, version).await?;
            let function = function.ok_or_else(|| RegistryError::Unknown(current.name.clone()))?;
            let function = this.set(function);
            let keep = this.0.usage.functions().versions;
            match this.0.store.prune_versions(&tenant, &current.id, keep).await {
                Ok(hashes) => this.forget(hashes).await,
                // The next update does it.
                Err(error) => tracing::error!(%error, "old versions could not be forgotten"),
            }
            Ok(function)
        });
        Ok(Deployed { function: function.await?, log })
    }

    /// Makes an earlier version current: the given one, or the one before the current.
    pub async fn rollback(&self, tenant: &str, name: &str, number: Option<i64>) -> Result<Arc<Function>> {
        self.refresh(tenant).await?;
        let (this, tenant, name) = (self.clone(), tenant.to_owned(), name.to_owned());
        whole(async move {
            let _changing = this.0.changing.lock().await;
            let current = this.get(&tenant, &name).ok_or_else(|| RegistryError::Unknown(name.clone()))?;
            let number = match number {
                Some(number) => number,
                None => this.version_before(&current).await?,
            };
            match this.0.store.set_version(&tenant, &current.id, number).await? {
                Some(function) => Ok(this.set(function)),
                None => Err(this.unknown_version(&current, number).await?),
            }
        })
        .await
    }

    /// Removes a function with its versions and history; whether there was one. Runs in flight end normally.
    pub async fn delete(&self, tenant: &str, name: &str) -> Result<bool> {
        self.refresh(tenant).await?;
        let (this, tenant, name) = (self.clone(), tenant.to_owned(), name.to_owned());
        whole(async move {
            let _changing = this.0.changing.lock().await;
            let hashes = match this.get(&tenant, &name) {
                Some(function) => this.versions_of(&function).await?.into_iter().map(|version| version.hash).collect(),
                None => Vec::new(),
            };
            let deleted = this.0.store.delete_function(&tenant, &name).await?;
            {
                let mut functions = this.0.functions.write().unwrap_or_else(PoisonError::into_inner);
                if let Some(function) = functions.get_mut(&tenant).and_then(|tenant| tenant.remove(&name)) {
                    this.0.listeners.remove(&function.tenant, &function.id);
                }
            }
            this.forget(hashes).await;
            Ok(deleted)
        })
        .await
    }

    async fn unknown_version(&self, current: &Function, version: i64) -> Result<RegistryError> {
        let numbers: Vec<i64> = self.versions_of(current).await?.iter().map(|version| version.number).collect();
        let have = match numbers.as_slice() {
            [] => "none".into(),
            [only] => format!("only version {only}"),
            [newest, .., oldest] => format!("versions {oldest} to {newest}"),
        };
        Ok(RegistryError::UnknownVersion { name: current.name.clone(), version, have })
    }

    /// The number of the version before the current one, of those that are kept.
    async fn version_before(&self, current: &Function) -> Result<i64> {
        let versions = self.versions_of(current).await?;
        let before = versions.iter().map(|version| version.number).find(|number| *number < current.version.number);
        Ok(before.unwrap_or(current.version.number - 1))
    }

    /// All versions, newest first, without their sources.
    async fn versions_of(&self, function: &Function) -> Result<Vec<Version>> {
        Ok(self.0.store.versions(&function.tenant, &function.id, u32::MAX).await?)
    }

    /// Removes the files of versions that are gone, unless another version has the same.
    async fn forget(&self, hashes: Vec<String>) {
        match self.0.store.unused_hashes(hashes).await {
            Ok(unused) => self.0.runtime.forget(unused).await,
            // The next start does it.
            Err(error) => tracing::error!(%error, "files of old versions could not be removed"),
        }
    }

    async fn upload(
        &self,
        tenant: &Arc<str>,
        name: &str,
        upload: Upload,
        settings: Settings,
    ) -> Result<(NewVersion, Vec<String>)> {
        let allowance = Duration::from_millis(self.0.usage.of_tenant(tenant).compile_ms);
        let Uploaded { hash, parameters, log } = self.0.runtime.upload(tenant, name, &upload, allowance).await?;
        let code = match upload {
            Upload::JavaScript(source) => NewCode::JavaScript { source, parameters },
            Upload::Component(bytes) => NewCode::Component(bytes),
        };
        let Settings { limits, delivery } = settings;
        Ok((NewVersion { code, hash, limits, delivery }, log))
    }

    fn set(&self, function: Function) -> Arc<Function> {
        let function = Arc::new(function);
        self.0.listeners.set(&function);
        let mut functions = self.0.functions.write().unwrap_or_else(PoisonError::into_inner);
        functions.entry(function.tenant.clone()).or_default().insert(function.name.clone(), function.clone());
        function
    }
}

/// Whether a function is as the store says.
fn is_as(known: &Function, outline: &Outline) -> bool {
    known.id == outline.id && known.version.number == outline.version && known.trigger == outline.trigger
}

/// Makes a change to its end, also when whoever asked for it goes away: store and memory must not differ.
async fn whole<T: Send + 'static>(change: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    let changed = tokio::spawn(change).await;
    changed.unwrap_or_else(|panic| Err(UploadError::Internal(panic.into()).into()))
}

fn check_trigger(trigger: &str) -> Result<()> {
    let error = if trigger.is_empty() {
        "the function has no trigger: give `web`, a channel, a type such as `chan_out` or `db_created`, or a change that it \
         runs before, such as `before:db_created:tasks`"
            .into()
    } else if trigger.len() > MAX_NAME {
        format!("a trigger has at most {MAX_NAME} bytes; this one has {}", trigger.len())
    } else if let Some(error) = hooks::trigger_error(trigger) {
        error
    } else {
        return Ok(());
    };
    Err(RegistryError::Trigger(error))
}
