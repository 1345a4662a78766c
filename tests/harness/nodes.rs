//! Several servers that share a new database of Postgres.

use sqlx::{Connection as _, Executor, PgConnection};

use super::{Caller, Server, Tenant, eventually, postgres::Cluster, text, thimble};

/// Servers in development mode, each with a data folder of its own.
pub struct Nodes {
    servers: Vec<Option<Server>>,
    url: String,
    key: String,
    settings: String,
    variables: Vec<(String, String)>,
}

impl Nodes {
    /// So many servers on the cluster that all tests share.
    pub async fn start(number: usize) -> Self {
        Self::with(number, "").await
    }

    /// The same with settings.
    pub async fn with(number: usize, settings: &str) -> Self {
        let cluster = Cluster::shared().await;
        Self::on(cluster, number, settings, &[]).await
    }

    /// Servers on a cluster, with settings and variables of the environment.
    pub async fn on(cluster: &Cluster, number: usize, settings: &str, variables: &[(&str, &str)]) -> Self {
        let url = cluster.url(&cluster.database().await);
        let key = format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
        let variables = variables.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let mut nodes = Self { servers: Vec::new(), url, key, settings: settings.into(), variables };
        for _ in 0..number {
            nodes.add().await;
        }
        nodes
    }

    /// Starts one more; its number.
    pub async fn add(&mut self) -> usize {
        let mut command = thimble(["serve", "--dev"]).with(&["--database", &self.url]).settings(&self.settings);
        for (name, value) in &self.variables {
            command = command.variable(name, value);
        }
        let server = command.variable("THIMBLE_MASTER_KEY", &self.key).serve().await;
        self.servers.push(Some(server));
        let all = self.alive().len() as i64;
        // A start is known to the others at once, but not within the same moment.
        eventually("the nodes know each other", async || {
            let listed = self.value("select count(*) from nodes where lease >= now() and listed").await;
            (all == 1 || listed >= all).then_some(())
        })
        .await;
        self.servers.len() - 1
    }

    /// One of the servers.
    pub fn server(&self, number: usize) -> &Server {
        self.servers[number].as_ref().unwrap()
    }

    /// The numbers of those that run.
    pub fn alive(&self) -> Vec<usize> {
        (0..self.servers.len()).filter(|number| self.servers[*number].is_some()).collect()
    }

    /// Ends one as a crash does.
    pub async fn kill(&mut self, number: usize) {
        let server = self.servers[number].take().unwrap();
        server.signal("KILL");
        server.ended().await;
    }

    /// Ends one as an operator does.
    pub async fn stop(&mut self, number: usize) {
        self.servers[number].take().unwrap().stop().await;
    }

    /// A new app, as it is seen from each node.
    pub async fn tenant(&self) -> Vec<Tenant> {
        let first = Tenant::on(self.server(self.alive()[0])).await;
        self.alive()
            .into_iter()
            .map(|number| Tenant::with(self.server(number), &first.key, first.root_token()))
            .collect()
    }

    /// Executes a statement in the database.
    pub async fn execute(&self, statement: &str) {
        let mut connection = PgConnection::connect(&self.url).await.unwrap();
        connection.execute(statement).await.unwrap();
        connection.close().await.unwrap();
    }

    /// A number that a query finds in the database.
    pub async fn value(&self, query: &str) -> i64 {
        let mut connection = PgConnection::connect(&self.url).await.unwrap();
        let value = sqlx::query_scalar(query).fetch_one(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        value
    }

    /// Whether all that run do so without a panic.
    pub fn are_well(&self) -> bool {
        self.servers.iter().flatten().all(Server::is_well)
    }

    /// The operator of the servers.
    pub async fn operator(&self) -> Caller {
        let first = self.server(0);
        let output = eventually("the operator token is shown", async || {
            Some(first.output()).filter(|output| output.contains("operator_"))
        });
        let output = output.await;
        let token = output.split_whitespace().find(|word| word.starts_with("operator_")).unwrap();
        Caller::nobody(&first.url).with_token(token.trim_end_matches(['.', ',']))
    }
}

/// What the documents of a collection hold in one field, which is text.
pub async fn stored(tenant: &Tenant, collection: &str, field: &str) -> Vec<String> {
    let (mut found, mut page) = (Vec::new(), 1);
    loop {
        let path = format!("/db/{collection}?page={page}&size=100");
        let results = tenant.root.get(&path).await.ok()["results"].as_array().cloned().unwrap_or_default();
        if results.is_empty() {
            return found;
        }
        found.extend(results.iter().map(|document| text(&document[field])));
        page += 1;
    }
}
