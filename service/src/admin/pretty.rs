//! JSON as json-c prints it prettily, and so ndctl: two blanks a level, no blank after the colon.

use alloc::string::String;

/// Lays out compact JSON. Text that is no JSON comes out in some layout, complete.
#[must_use]
pub(super) fn pretty(json: &str) -> String {
    let mut out = String::with_capacity(json.len() * 2);
    let mut depth = 0_usize;
    let mut chars = json.chars().peekable();
    while let Some(next) = chars.next() {
        match next {
            '"' => {
                out.push('"');
                while let Some(inner) = chars.next() {
                    out.push(inner);
                    match inner {
                        '"' => break,
                        '\\' => out.extend(chars.next()),
                        _ => {}
                    }
                }
            }
            '{' | '[' => {
                out.push(next);
                if let Some(close) = chars.next_if(|close| matches!(close, '}' | ']')) {
                    out.push(close);
                } else {
                    depth += 1;
                    new_line(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                new_line(&mut out, depth);
                out.push(next);
            }
            ',' => {
                out.push(',');
                new_line(&mut out, depth);
            }
            _ => out.push(next),
        }
    }
    out
}

fn new_line(out: &mut String, depth: usize) {
    out.push('\n');
    for _ in 0..depth {
        out.push_str("  ");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_laid_out_as_json_c_does() {
        let compact = r#"[{"dev":"a,{\"","n":[],"o":{},"list":[1,2]}]"#;
        let expected = "[\n  {\n    \"dev\":\"a,{\\\"\",\n    \"n\":[],\n    \"o\":{},\n    \"list\":[\n      1,\n      2\n    ]\n  }\n]";
        assert_eq!(pretty(compact), expected);
    }
}
