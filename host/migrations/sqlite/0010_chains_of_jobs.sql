-- The chain of causes that a job goes on with, as JSON; none when it begins one.
alter table jobs add column cause text;
