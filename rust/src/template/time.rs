//! `strftime` in the C locale, for `strftime_now(format)`.

const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const MONTHS: [&str; 12] = [
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
];

/// Longest result.
const LENGTH_MAX: usize = 4096;

/// A moment in local time, broken down.
struct Moment {
    year: i64,
    month: usize,    // 1 to 12
    day: i64,        // 1 to 31
    seconds: i64,    // of the day
    week_day: usize, // 0 is Sunday
    year_day: i64,   // 1 to 366
}

/// Days since 1970-01-01 of a proleptic Gregorian date (Howard Hinnant's algorithm).
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

impl Moment {
    /// `local_s`: seconds since 1970-01-01 00:00 on the local clock.
    fn new(local_s: i64) -> Moment {
        let days = local_s.div_euclid(86_400);
        let shifted = days + 719_468;
        let era = shifted.div_euclid(146_097);
        let day_of_era = shifted.rem_euclid(146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        Moment {
            year,
            month: month as usize,
            day: day_of_year - (153 * shifted_month + 2) / 5 + 1,
            seconds: local_s.rem_euclid(86_400),
            week_day: (days + 4).rem_euclid(7) as usize,
            year_day: days - days_from_civil(year, 1, 1) + 1,
        }
    }

    /// ISO 8601 year and week.
    fn iso_week(&self) -> (i64, i64) {
        let monday_based = (self.week_day as i64 + 6) % 7;
        let week = (self.year_day - 1 - monday_based + 10) / 7;
        let weeks_in = |year: i64| {
            let first = (days_from_civil(year, 1, 1) + 3).rem_euclid(7); // 0 is Monday
            let leap = days_from_civil(year + 1, 1, 1) - days_from_civil(year, 1, 1) == 366;
            if first == 3 || (first == 2 && leap) { 53 } else { 52 }
        };
        if week < 1 {
            (self.year - 1, weeks_in(self.year - 1))
        } else if week > weeks_in(self.year) {
            (self.year + 1, 1)
        } else {
            (self.year, week)
        }
    }

    fn directive(&self, directive: char) -> Option<String> {
        let (hour, minute, second) = (self.seconds / 3600, self.seconds / 60 % 60, self.seconds % 60);
        let hour12 = (hour + 11) % 12 + 1;
        let (day_name, month_name) = (DAYS[self.week_day], MONTHS[self.month - 1]);
        let two = |n: i64| format!("{n:02}");
        Some(match directive {
            'a' => day_name[..3].into(),
            'A' => day_name.into(),
            'b' | 'h' => month_name[..3].into(),
            'B' => month_name.into(),
            'c' => self.format("%a %b %e %H:%M:%S %Y"),
            'C' => two(self.year.div_euclid(100)),
            'd' => two(self.day),
            'D' | 'x' => self.format("%m/%d/%y"),
            'e' => format!("{:2}", self.day),
            'f' => "000000".into(),
            'F' => self.format("%Y-%m-%d"),
            'G' => self.iso_week().0.to_string(),
            'g' => two(self.iso_week().0.rem_euclid(100)),
            'H' => two(hour),
            'I' => two(hour12),
            'j' => format!("{:03}", self.year_day),
            'k' => format!("{hour:2}"),
            'l' => format!("{hour12:2}"),
            'm' => two(self.month as i64),
            'M' => two(minute),
            'n' => "\n".into(),
            'p' => if hour < 12 { "AM" } else { "PM" }.into(),
            'P' => if hour < 12 { "am" } else { "pm" }.into(),
            'r' => self.format("%I:%M:%S %p"),
            'R' => self.format("%H:%M"),
            'S' => two(second),
            't' => "\t".into(),
            'T' | 'X' => self.format("%H:%M:%S"),
            'u' => ((self.week_day + 6) % 7 + 1).to_string(),
            'U' => two((self.year_day + 6 - self.week_day as i64) / 7),
            'V' => two(self.iso_week().1),
            'w' => self.week_day.to_string(),
            'W' => two((self.year_day + 6 - (self.week_day as i64 + 6) % 7) / 7),
            'y' => two(self.year.rem_euclid(100)),
            'Y' => self.year.to_string(),
            // A Python datetime without a time zone prints nothing for these.
            'z' | 'Z' => String::new(),
            '%' => "%".into(),
            _ => return None,
        })
    }

    fn format(&self, format: &str) -> String {
        let mut out = String::new();
        let mut chars = format.chars();
        while let Some(c) = chars.next() {
            if out.len() > LENGTH_MAX {
                break;
            }
            if c != '%' {
                out.push(c);
                continue;
            }
            let mut rest = chars.clone();
            let flag = match rest.next() {
                Some(flag @ ('-' | '_' | '^')) => Some(flag),
                _ => {
                    rest = chars.clone();
                    None
                }
            };
            match rest.next().and_then(|directive| self.directive(directive)) {
                Some(text) => {
                    out.push_str(&flagged(&text, flag));
                    chars = rest;
                }
                None => out.push('%'),
            }
        }
        out
    }
}

/// glibc's flags: `-` drops padding, `_` pads with spaces, `^` is upper case.
fn flagged(text: &str, flag: Option<char>) -> String {
    let unpadded = text.trim_start_matches(['0', ' ']);
    let unpadded = if unpadded.is_empty() && !text.is_empty() { &text[text.len() - 1..] } else { unpadded };
    match flag {
        Some('-') => unpadded.into(),
        Some('_') => format!("{unpadded:>width$}", width = text.len()),
        Some('^') => text.to_uppercase(),
        _ => text.into(),
    }
}

/// `datetime.now().strftime(format)`, with `local_s` as the clock: seconds since 1970-01-01 00:00 local time.
pub fn strftime(local_s: i64, format: &str) -> String {
    Moment::new(local_s.clamp(-62_135_596_800, 253_402_300_799)).format(format)
}

#[cfg(test)]
mod tests {
    use super::strftime;

    #[test]
    fn formats_what_templates_ask_for() {
        let moment = 1_721_952_305; // 2024-07-26 00:05:05, a Friday
        for (format, text) in [
            ("%d %b %Y", "26 Jul 2024"),
            ("%Y-%m-%d", "2024-07-26"),
            ("%B %-d, %Y", "July 26, 2024"),
            ("%A %I:%M %p", "Friday 12:05 AM"),
            ("%H:%M:%S %j %U %W %V", "00:05:05 208 29 30 30"),
            ("100%", "100%"),
            ("%Q%%", "%Q%"),
            ("%c|%x|%X", "Fri Jul 26 00:05:05 2024|07/26/24|00:05:05"),
        ] {
            assert_eq!(strftime(moment, format), text, "{format}");
        }
    }

    #[test]
    fn iso_weeks_cross_the_year() {
        assert_eq!(strftime(1_609_459_200, "%G-W%V-%u"), "2020-W53-5"); // 2021-01-01
        assert_eq!(strftime(1_735_516_800, "%G-W%V-%u"), "2025-W01-1"); // 2024-12-30
        assert_eq!(strftime(951_782_400, "%F"), "2000-02-29");
        assert_eq!(strftime(-1, "%F %T"), "1969-12-31 23:59:59");
    }
}
