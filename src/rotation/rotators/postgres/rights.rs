//! In what two users differ, as any user may see it.

/// The differences between two users: what, and which of them has it. At most five.
///
/// `pg_shdepend` knows all that is owned by or granted to a role in every database of the server;
/// the access lists of this database tell which rights these are. A setting's value is compared
/// and not shown. Whether a user can log in is what a rotation changes.
pub(super) const DIFFERENCES: &str = "
WITH who AS (SELECT oid, rolname::text AS name FROM pg_roles WHERE rolname = ANY($1)),
lists(kind, object, list) AS (
    SELECT 'table ' || oid::regclass::text, oid, relacl FROM pg_class
    UNION ALL SELECT 'schema ' || nspname, oid, nspacl FROM pg_namespace
    UNION ALL SELECT 'database ' || datname, oid, datacl FROM pg_database
    UNION ALL SELECT 'function ' || oid::regprocedure::text, oid, proacl FROM pg_proc
    UNION ALL SELECT 'type ' || oid::regtype::text, oid, typacl FROM pg_type
    UNION ALL SELECT 'tablespace ' || spcname, oid, spcacl FROM pg_tablespace
    UNION ALL SELECT 'server ' || srvname, oid, srvacl FROM pg_foreign_server
    UNION ALL SELECT 'language ' || lanname, oid, lanacl FROM pg_language
    UNION ALL SELECT 'large object ' || oid, oid, lomacl FROM pg_largeobject_metadata
    UNION ALL SELECT 'what ' || defaclrole::regrole::text || ' will make', oid, defaclacl
        FROM pg_default_acl
    UNION ALL SELECT 'column ' || attrelid::regclass::text || '.' || attname, attrelid, attacl
        FROM pg_attribute
),
things(who, thing, label) AS (
    SELECT who.name,
        concat_ws(',', 'attributes', rolsuper, rolinherit, rolcreaterole, rolcreatedb,
            rolreplication, rolbypassrls, rolconnlimit, rolvaliduntil),
        'attributes of the role'
    FROM who JOIN pg_roles USING (oid)
    UNION ALL
    SELECT who.name, concat_ws(',', 'member', roleid, admin_option),
        'membership of ' || roleid::regrole::text
    FROM who JOIN pg_auth_members ON member = who.oid
    UNION ALL
    SELECT who.name, concat_ws(',', 'setting', setdatabase, setting),
        'setting ' || split_part(setting, '=', 1)
    FROM who JOIN pg_db_role_setting ON setrole = who.oid, unnest(setconfig) setting
    UNION ALL
    SELECT who.name, concat_ws(',', 'uses', dbid, classid, objid, objsubid, deptype),
        CASE deptype WHEN 'o' THEN 'ownership of ' WHEN 'r' THEN 'policy on ' ELSE 'rights on ' END
        || CASE WHEN dbid IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
            THEN coalesce(pg_describe_object(classid, objid, objsubid), 'an object')
            ELSE 'an object of the database '
                || coalesce((SELECT datname FROM pg_database WHERE oid = dbid), dbid::text) END
    FROM who JOIN pg_shdepend ON refobjid = who.oid AND refclassid = 'pg_authid'::regclass
    UNION ALL
    SELECT who.name, concat_ws(',', 'right', kind, object, privilege_type, is_grantable),
        privilege_type || CASE WHEN is_grantable THEN ' with grant option' ELSE '' END
        || ' on ' || kind
    FROM (SELECT * FROM lists WHERE list IS NOT NULL) given, aclexplode(list), who
    WHERE grantee = who.oid
)
SELECT label, min(who) FROM things GROUP BY thing, label
HAVING count(DISTINCT who) <> 2
ORDER BY label LIKE 'ownership %' DESC, label, min(who) LIMIT 5";
