-- The address that a link was sent to: it holds only as long as its account has that address, whoever changes it.
-- Without one it is an administrator's to pass on, and sets a first password only.
alter table password_links add column sent_to text;
