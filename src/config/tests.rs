use super::*;

#[test]
fn defaults_pass_their_own_checks() {
    let config = Config::default();
    assert_eq!(config.smtp_timeout, Duration::from_secs(600));
}
