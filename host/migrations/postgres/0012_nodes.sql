-- What nodes tell each other. `listed`: the node's channels are in `members`; until they are, it may have members anywhere.
alter table nodes add column listed boolean not null default false;

-- How many members each channel has on each node. Like what is relayed it need not survive a crash of the database, so it is
-- not written to the log of changes: nodes list their members anew when they connect again.
create unlogged table members (
    tenant text collate "C" not null,
    channel text collate "C" not null,
    node text collate "C" not null,
    members bigint not null,
    primary key (tenant, channel, node)
);

create index members_of_node on members (node);

-- Realtime messages for the members on other nodes, numbered by the node that sends them; kept for a minute.
create unlogged table relayed (
    node text collate "C" not null,
    number bigint not null,
    batch text not null,
    created timestamptz not null default now(),
    primary key (node, number)
);

create index relayed_by_age on relayed (created);

-- Counts the changes of each tenant that nodes hold in memory: functions, the operator's quota, users.
create table changes (
    tenant text collate "C" primary key references tenants (id),
    version bigint not null,
    at timestamptz not null
);

create index changes_by_age on changes (at);

-- The node that is sending a mail.
alter table mails add column owner text collate "C";
