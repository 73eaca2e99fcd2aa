//! Klaviyo's filter language: `operator(field,value)`, several joined by commas that mean "and".

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Condition {
    pub(crate) operator: String,
    pub(crate) field: String,
    pub(crate) values: Vec<String>,
}

impl Condition {
    /// The only value of an operator that takes one.
    pub(crate) fn value(&self) -> &str {
        self.values.first().map_or("", String::as_str)
    }
}

pub(crate) fn parse(text: &str) -> Option<Vec<Condition>> {
    let mut reader = Reader { rest: text.trim() };
    let mut conditions = Vec::new();
    loop {
        conditions.push(reader.condition()?);
        if reader.rest.is_empty() {
            return Some(conditions);
        }
        reader.expect(',')?;
    }
}

struct Reader<'t> {
    rest: &'t str,
}

impl Reader<'_> {
    fn condition(&mut self) -> Option<Condition> {
        let operator = self.until('(')?;
        self.expect('(')?;
        let end = self.rest.find([',', ')'])?;
        let field = self.rest[..end].trim().trim_matches(['"', '\'']).to_owned();
        self.rest = &self.rest[end..];
        let mut values = Vec::new();
        if self.rest.starts_with(',') {
            self.expect(',')?;
            values = self.values()?;
        }
        self.expect(')')?;
        Some(Condition {
            operator,
            field,
            values,
        })
    }

    fn values(&mut self) -> Option<Vec<String>> {
        if !self.rest.starts_with('[') {
            return Some(vec![self.value(&[')'])?]);
        }
        self.expect('[')?;
        let mut values = Vec::new();
        while !self.rest.starts_with(']') {
            values.push(self.value(&[',', ']'])?);
            if self.rest.starts_with(',') {
                self.expect(',')?;
            }
        }
        self.expect(']')?;
        Some(values)
    }

    /// A quoted string, or bare text up to one of `ends`.
    fn value(&mut self, ends: &[char]) -> Option<String> {
        let quote = self.rest.chars().next()?;
        if quote != '"' && quote != '\'' {
            let end = self.rest.find(ends)?;
            let value = self.rest[..end].trim().to_owned();
            self.rest = &self.rest[end..];
            return Some(value);
        }
        let mut value = String::new();
        let mut characters = self.rest.char_indices().skip(1);
        while let Some((index, character)) = characters.next() {
            match character {
                '\\' => value.push(characters.next()?.1),
                _ if character == quote => {
                    self.rest = self.rest[index + 1..].trim_start();
                    return Some(value);
                }
                _ => value.push(character),
            }
        }
        None
    }

    fn until(&mut self, end: char) -> Option<String> {
        let index = self.rest.find(end)?;
        let text = self.rest[..index].trim().to_owned();
        self.rest = &self.rest[index..];
        Some(text)
    }

    fn expect(&mut self, character: char) -> Option<()> {
        self.rest = self.rest.strip_prefix(character)?.trim_start();
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(operator: &str, field: &str, values: &[&str]) -> Condition {
        let values = values.iter().map(|value| (*value).to_owned()).collect();
        Condition {
            operator: operator.to_owned(),
            field: field.to_owned(),
            values,
        }
    }

    #[test]
    fn filters_of_the_guide_are_understood() {
        assert_eq!(
            parse(r#"equals(email,"a+b@shop.io")"#),
            Some(vec![condition("equals", "email", &["a+b@shop.io"])])
        );
        assert_eq!(
            parse(r#"any(email,["a@x.io", "b@x.io"])"#),
            Some(vec![condition("any", "email", &["a@x.io", "b@x.io"])])
        );
        assert_eq!(
            parse(
                "greater-than(updated,2026-09-01T00:00:00Z),less-than(updated,2026-09-02T00:00:00Z)"
            ),
            Some(vec![
                condition("greater-than", "updated", &["2026-09-01T00:00:00Z"]),
                condition("less-than", "updated", &["2026-09-02T00:00:00Z"]),
            ])
        );
        assert_eq!(
            parse(r#"equals(name,"a \"b\" \\ ),c")"#),
            Some(vec![condition("equals", "name", &["a \"b\" \\ ),c"])])
        );
        assert_eq!(
            parse("has(profile)"),
            Some(vec![condition("has", "profile", &[])])
        );
    }

    #[test]
    fn broken_filters_are_refused() {
        for broken in [
            "",
            "email",
            "equals(email",
            r#"equals(email,"a)"#,
            "equals(email,1)x",
            "any(a,[1,2)",
        ] {
            assert_eq!(parse(broken), None, "{broken}");
        }
    }
}
