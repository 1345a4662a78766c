-- Times are microseconds since the Unix epoch. Names of tenants are their public keys.

create table settings (
    key text primary key,
    value text not null
) strict, without rowid;

create table tenants (
    seq integer primary key autoincrement,
    id text not null unique,
    email text not null,
    session_key blob not null,
    created integer not null
) strict;

create table users (
    seq integer primary key autoincrement,
    tenant text not null references tenants (id),
    id text not null,
    account text not null,
    email text not null,
    password_hash text not null,
    session_epoch text not null,
    root_token_hash text,
    role integer not null,
    created integer not null,
    unique (tenant, id),
    unique (tenant, email)
) strict;

create index users_of_account on users (tenant, account);

-- `seq` is the order of creation. `body` is the text that `document::canonical` makes, with `id` and `accountId` in it.
create table documents (
    seq integer primary key autoincrement,
    tenant text not null references tenants (id),
    collection text not null,
    id text not null,
    account text not null,
    owner text not null,
    created integer not null,
    version integer not null,
    body text not null,
    unique (tenant, collection, id)
) strict;

-- What everyone may read is listed by the first, what an account or an owner may read by the second.
create index documents_in_order on documents (tenant, collection, seq);
create index documents_of_account on documents (tenant, collection, account, seq, owner);

-- `version` is the number of the one that runs.
create table functions (
    id text primary key,
    tenant text not null references tenants (id),
    name text not null,
    "trigger" text not null,
    version integer not null,
    created integer not null,
    last_run integer,
    unique (tenant, name)
) strict;

create table versions (
    seq integer primary key autoincrement,
    function text not null references functions (id) on delete cascade,
    number integer not null,
    source text not null,
    hash text not null,
    parameters integer not null,
    created integer not null,
    unique (function, number)
) strict;

-- `log` is a JSON array of lines.
create table runs (
    seq integer primary key autoincrement,
    id text not null,
    tenant text not null,
    function text not null references functions (id) on delete cascade,
    version integer not null,
    "trigger" text not null,
    outcome text not null,
    error text,
    started integer not null,
    completed integer not null,
    duration_us integer not null,
    fuel integer not null,
    peak_memory integer not null,
    trace_id text not null,
    log text not null
) strict;

create index runs_of_function on runs (function, started, seq);
create index runs_by_age on runs (started);

-- `message` is JSON; without `next_attempt` a mail was sent or given up.
create table mails (
    seq integer primary key autoincrement,
    id text not null unique,
    tenant text not null references tenants (id),
    run text,
    message text not null,
    created integer not null,
    attempts integer not null default 0,
    next_attempt integer,
    sent integer,
    error text
) strict;

create index mails_due on mails (next_attempt) where next_attempt is not null;
create index mails_of_tenant on mails (tenant, created, seq);
