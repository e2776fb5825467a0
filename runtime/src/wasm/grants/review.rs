//! What becomes of everything that a manifest asks for: for whoever looks at a plugin before it runs.

use super::{Denied, GrantBy, Grants};

impl Grants {
    /// Everything that the manifest asks for, each with what becomes of it.
    #[must_use]
    pub fn review(&self) -> Vec<(String, String)> {
        let word =
            |granted: Result<(), Denied>| granted.map_or_else(|denied| denied.to_string(), |()| "granted".into());
        let mut review = Vec::new();
        for pattern in &self.asked.enqueue {
            let own = &self.tenant.max.enqueue;
            review.push((format!("enqueue {pattern}"), self.within(own, || self.enqueue_like(pattern))));
        }
        if self.asked.kv {
            review.push(("kv".to_owned(), word(self.kv())));
        }
        for name in &self.asked.config {
            let set = self.tenant.config.contains_key(name);
            review.push((format!("config {name}"), if set { "set" } else { "not set by the operator" }.to_owned()));
        }
        review.extend(
            self.asked.secrets.iter().map(|name| (format!("secret {name}"), word(self.secret(name).map(drop)))),
        );
        for rule in &self.asked.http {
            let own: Vec<String> = self.tenant.max.http.iter().map(|pattern| pattern.as_str().to_owned()).collect();
            let lacks = || Denied {
                what: "it".to_owned(),
                lines: vec![self.in_max(&format!("http = [\"{}\"]", rule.url.as_str()))],
            };
            let name = format!("http {} {}", rule.methods.join(","), rule.url.as_str());
            review.push((name, self.within(&own, || Err(lacks()))));
            for (header, template) in &rule.headers {
                review.push((format!("header {header}"), word(self.header(template).map(drop))));
            }
        }
        for (name, mode) in &self.asked.blobs {
            let sides = [(mode.read, false, "read"), (mode.write, true, "write")];
            for (_, write, how) in sides.into_iter().filter(|(asked, ..)| *asked) {
                review.push((format!("blobs {name} {how}"), word(self.blob(name, write).map(drop))));
            }
        }
        review
    }

    /// What the manifest asks for and does not get, each in words that say what would be to be added.
    #[must_use]
    pub fn missing(&self) -> Vec<String> {
        let given = |becomes: &str| becomes == "set" || becomes.starts_with("granted");
        let missing = self.review().into_iter().filter(|(_, becomes)| !given(becomes));
        missing.map(|(asked, becomes)| format!("{asked}: {becomes}")).collect()
    }

    /// What becomes of a pattern that the operator may narrow.
    fn within(&self, own: &[String], lacking: impl Fn() -> Result<(), Denied>) -> String {
        match (self.tenant.grant, own) {
            (GrantBy::Manifest, _) => "granted".to_owned(),
            (GrantBy::Both, []) => lacking().err().map_or_else(|| "granted".to_owned(), |denied| denied.to_string()),
            (GrantBy::Both, own) => format!("granted within {}", own.join(" ")),
        }
    }
}
