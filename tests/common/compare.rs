//! Whether two databases are equal, as far as pg_dump can see.

use super::{Server, run};

/// The database as pg_dump writes it, without the token that differs from run to run.
pub fn dump_of(server: &Server, database: &str, options: &[&str]) -> String {
    without_token(run(server.client("pg_dump").args(options).args(["-d", database])).ok().text())
}

/// Makes sure that two databases, of one server or two, are equal: schema, rows in their order, sequences, large objects,
/// owners, grants, comments; and what belongs to the database itself (settings, encoding, comment, grants).
#[track_caller]
pub fn assert_same_database(left: (&Server, &str), right: (&Server, &str)) {
    assert_eq!(database_difference(left, right), None);
}

/// The first line in which two databases differ, as [`assert_same_database`] sees them.
pub fn database_difference(left: (&Server, &str), right: (&Server, &str)) -> Option<String> {
    difference(&dump_of(left.0, left.1, &[]), &dump_of(right.0, right.1, &[]))
        .or_else(|| difference(&properties(left), &properties(right)))
}

/// Makes sure that two servers have the same roles, memberships and settings of roles.
#[track_caller]
pub fn assert_same_globals(left: &Server, right: &Server) {
    let globals = |server: &Server| {
        let done = run(server.client("pg_dumpall").args(["--globals-only", "--no-role-passwords"])).ok();
        without_token(done.text())
    };
    assert_eq!(difference(&globals(left), &globals(right)), None);
}

/// Everything of `pg_dump --create` that plain pg_dump leaves out, asked from the catalogs.
fn properties((server, database): (&Server, &str)) -> String {
    let sql = "SELECT row_to_json(d) FROM (
        SELECT pg_get_userbyid(datdba) AS owner, pg_encoding_to_char(encoding), datcollate, datctype, datistemplate,
               datallowconn, datconnlimit,
               ARRAY(SELECT a::text FROM unnest(coalesce(datacl, acldefault('d', datdba))) a ORDER BY 1) AS acl,
               shobj_description(oid, 'pg_database') AS comment,
               (SELECT array_agg(s.setrole::regrole || ' ' || array_to_string(s.setconfig, E'\\n') ORDER BY s.setrole::regrole::text)
                FROM pg_db_role_setting s WHERE s.setdatabase = p.oid) AS settings
        FROM pg_database p WHERE datname = current_database()) d";
    server.sql(database, sql)
}

fn without_token(dump: &str) -> String {
    let mut lines: Vec<&str> = dump.lines().collect();
    lines.retain(|line| !line.starts_with("\\restrict ") && !line.starts_with("\\unrestrict "));
    lines.join("\n")
}

fn difference(left: &str, right: &str) -> Option<String> {
    let (mut a, mut b) = (left.lines(), right.lines());
    (1..)
        .map(|number| (number, a.next(), b.next()))
        .take_while(|(_, x, y)| x.is_some() || y.is_some())
        .find_map(|(number, x, y)| (x != y).then(|| format!("line {number}\n  left: {x:?}\n right: {y:?}")))
}
