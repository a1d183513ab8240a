//! Hidden states to run a layer on: seeded noise, or a text's.

use std::path::Path;

use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::num::{bf16, round_bf16};
use crate::random::{derive, derive_named, normals};
use crate::read_file::read_file;

const OP: &str = "tokens";
/// Of a file of text. A token takes 8 bytes of memory.
const MAX_FILE_BYTES: u64 = 1 << 30;

/// What counts as one token of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextSplit {
    /// Every byte.
    Bytes,
    /// Every run of letters, digits and underscores, and every other character that is no space.
    Words,
}

/// An endless sequence of tokens whose hidden states any rank can make for itself.
///
/// A hidden state has `hidden` normal numbers of mean 0 and standard deviation 1, rounded to BF16: of
/// noise they depend on the seed and the token's position, of a text on the seed and the token's letters.
/// So equal words are routed alike, and a layer sees the repetition and the skew of a real text. A text
/// starts over at its end.
///
/// # Examples
///
/// ```
/// use moekit::moe::tokens::{TextSplit, TokenSource};
/// use moekit::num::bf16;
///
/// let text = TokenSource::text("to be, or not to be", TextSplit::Words, 1)?;
/// assert_eq!(text.num_tokens(), Some(7));
/// let mut x = vec![bf16::ZERO; 2 * 16];
/// text.hidden_states(5, 16, &mut x);
/// let mut first = vec![bf16::ZERO; 2 * 16];
/// text.hidden_states(0, 16, &mut first);
/// assert_eq!(x, first);
/// # Ok::<(), moekit::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct TokenSource {
    seed: u64,
    content: Content,
}

#[derive(Debug, Clone)]
enum Content {
    Noise,
    /// Seed of each token of the text.
    Text(Vec<u64>),
}

impl TokenSource {
    /// Every token is different.
    pub fn noise(seed: u64) -> Self {
        Self { seed, content: Content::Noise }
    }

    /// The tokens of a text, over and over.
    ///
    /// # Errors
    ///
    /// [`Error::Value`] if the text has no token.
    pub fn text(text: &str, split: TextSplit, seed: u64) -> Result<Self> {
        let tokens: Vec<u64> = match split {
            TextSplit::Bytes => text.bytes().map(|byte| derive_named(seed, &[byte])).collect(),
            TextSplit::Words => words(text).map(|w| derive_named(seed, w.as_bytes())).collect(),
        };
        if tokens.is_empty() {
            let got = format!("{} bytes without one", text.len());
            return Err(Error::value(OP, "text", "at least one token", got));
        }
        Ok(Self { seed, content: Content::Text(tokens) })
    }

    /// The tokens of a file of UTF-8 text.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the file cannot be read or is larger than 1 GiB; [`Error::Format`] naming the
    /// first byte that is not UTF-8, or if there is no token.
    pub fn read(path: impl AsRef<Path>, split: TextSplit, seed: u64) -> Result<Self> {
        let path = path.as_ref();
        let bytes = read_file(OP, path, MAX_FILE_BYTES)?;
        let text = std::str::from_utf8(&bytes).map_err(|error| Error::Format {
            path: path.to_owned(),
            format: "UTF-8 text",
            problem: format!("byte {} is not UTF-8", error.valid_up_to()),
        })?;
        Self::text(text, split, seed).map_err(|_| Error::Format {
            path: path.to_owned(),
            format: "text",
            problem: format!("no token in its {} bytes", text.len()),
        })
    }

    /// Tokens of the text before it starts over; `None` for noise, which never does.
    pub fn num_tokens(&self) -> Option<usize> {
        match &self.content {
            Content::Noise => None,
            Content::Text(tokens) => Some(tokens.len()),
        }
    }

    /// Writes the hidden states of consecutive tokens, the first of which is `first_token_idx`.
    ///
    /// # Shapes
    ///
    /// | name | dtype | shape | layout |
    /// | --- | --- | --- | --- |
    /// | `out` | BF16 | `[num_tokens, hidden]` | contiguous; a last part that is no whole row is left alone |
    pub fn hidden_states(&self, first_token_idx: usize, hidden: usize, out: &mut [bf16]) {
        out.par_chunks_exact_mut(hidden.max(1)).enumerate().for_each(|(row_idx, row)| {
            let numbers = normals(self.token_seed(first_token_idx + row_idx));
            row.iter_mut().zip(numbers).for_each(|(out, x)| *out = round_bf16(x));
        });
    }

    fn token_seed(&self, token_idx: usize) -> u64 {
        match &self.content {
            Content::Noise => derive(self.seed, token_idx as u64),
            Content::Text(tokens) => tokens[token_idx % tokens.len()],
        }
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut rest = text;
    std::iter::from_fn(move || {
        rest = rest.trim_start();
        let first = rest.chars().next()?;
        let len = if is_word(first) {
            rest.find(|c| !is_word(c)).unwrap_or(rest.len())
        } else {
            first.len_utf8()
        };
        let (word, after) = rest.split_at(len);
        rest = after;
        Some(word)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(source: &TokenSource, first: usize, num_tokens: usize) -> Vec<bf16> {
        let mut out = vec![bf16::NAN; num_tokens * 32];
        source.hidden_states(first, 32, &mut out);
        out
    }

    #[test]
    fn words_are_runs_of_letters_and_single_signs() {
        let got: Vec<_> = words(" fn été_2(x) -> «ß»\n").collect();
        assert_eq!(got, ["fn", "été_2", "(", "x", ")", "-", ">", "«", "ß", "»"]);
        assert_eq!(words(" \n\t").count(), 0);
    }

    #[test]
    fn a_rank_makes_the_rows_that_another_would() {
        for source in [
            TokenSource::noise(3),
            TokenSource::text("a b c a", TextSplit::Words, 3).expect("four words"),
            TokenSource::text("abca", TextSplit::Bytes, 3).expect("four bytes"),
        ] {
            let all = rows(&source, 0, 6);
            assert_eq!(rows(&source, 2, 3), all[2 * 32..5 * 32], "{source:?}");
        }
    }

    #[test]
    fn equal_tokens_of_a_text_are_equal_and_others_are_not() {
        let text = TokenSource::text("a b a", TextSplit::Words, 3).expect("three words");
        let all = rows(&text, 0, 4);
        let row = |idx: usize| &all[idx * 32..][..32];
        assert_eq!(row(0), row(2));
        assert_eq!(row(0), row(3), "the text starts over");
        assert_ne!(row(0), row(1));
        let noise = rows(&TokenSource::noise(3), 0, 2);
        assert_ne!(noise[..32], noise[32..]);
    }

    #[test]
    fn a_text_without_tokens_and_a_file_without_text_are_refused() {
        let error = TokenSource::text(" \n", TextSplit::Words, 0).expect_err("no word").to_string();
        assert!(error.contains("at least one token"), "{error}");
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), b"ab\xff").expect("written");
        let error =
            TokenSource::read(file.path(), TextSplit::Bytes, 0).expect_err("binary").to_string();
        assert!(error.contains("byte 2 is not UTF-8"), "{error}");
    }
}
