-- Whether the events of a function are kept until it has run for them.
alter table versions add column delivery text not null default 'at-least-once';

-- What happened, as JSON, while functions have still to run for it.
create table events (
    seq integer primary key autoincrement,
    tenant text not null references tenants (id),
    event text not null,
    created integer not null
) strict;

-- One function that has to run for an event. `key` is the channel or the document: of deliveries of one function with one key
-- the one with the smallest `seq` comes first, and holds the others back. `owner` is the process that has it in hand. A dead one
-- is tried no more and waits for its owner to look at it.
create table deliveries (
    seq integer primary key autoincrement,
    event integer not null references events (seq),
    tenant text not null references tenants (id),
    function text not null references functions (id) on delete cascade,
    key text not null,
    matched text not null,
    attempts integer not null default 0,
    next_attempt integer not null,
    owner text,
    dead integer not null default 0,
    error text,
    run text
) strict;

create index deliveries_of_key on deliveries (function, key, seq) where not dead;
create index deliveries_due on deliveries (next_attempt) where not dead and owner is null;
create index deliveries_dead on deliveries (tenant, function, seq) where dead;
create index deliveries_of_event on deliveries (event);
