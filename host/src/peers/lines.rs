//! Messages on their way between nodes: lines, as many in a batch as fit into one notice.

/// Bytes of a batch that goes with its notice. A larger one is a message by itself, which the others have to ask for.
const FITS: usize = 7_900;

/// Puts lines together, in their order.
pub fn pack(lines: Vec<String>) -> Vec<String> {
    let mut batches: Vec<String> = Vec::new();
    for line in lines {
        match batches.last_mut() {
            Some(batch) if batch.len() + 1 + line.len() <= FITS => {
                batch.push('\n');
                batch.push_str(&line);
            }
            _ => batches.push(line),
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_packed_in_order_and_none_is_lost() {
        let lines: Vec<String> = (0..200_usize).map(|n| format!("{n}:{}", "x".repeat(n * 97 % 12_000))).collect();

        let batches = pack(lines.clone());

        assert_eq!(batches.join("\n"), lines.join("\n"));
        assert!(batches.len() < lines.len());
        assert!(batches.iter().all(|batch| batch.len() <= FITS || !batch.contains('\n')));
        assert!(pack(Vec::new()).is_empty());
    }
}
