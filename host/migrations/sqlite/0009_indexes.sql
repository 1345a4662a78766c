-- Fields of collections that are found by an index of their own: `documents_field_` and `seq`, which is there when it can be used.
create table indexes (
    seq integer primary key autoincrement,
    tenant text not null references tenants (id),
    collection text not null,
    field text not null,
    created integer not null,
    unique (tenant, collection, field)
) strict;
