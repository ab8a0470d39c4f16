//! How the connections of a signal are secured.

use super::super::Tls;
use super::*;

impl Settler<'_> {
    /// None for plain text. The files that variables name are not read here.
    ///
    /// # Errors
    ///
    /// A misuse error where code asks for TLS at an endpoint of its own in plain text.
    pub(super) fn tls(&mut self, signal: Signal, chosen: &Chosen) -> Result<Option<Tls>, Error> {
        let endpoint = &chosen.endpoint;
        let (tls, origin) = self.pick(signal, |options| options.tls.clone());
        match (endpoint.scheme(), tls) {
            (Scheme::Http, None) => Ok(None),
            (Scheme::Http, Some(_)) => {
                let name = origin.name(&options::TLS);
                let text = format!(
                    "{name}: {} go to {endpoint} ({}) in plain text, since its scheme decides; use https, or leave with_tls out",
                    signal_name(signal),
                    chosen.origin.name(&options::ENDPOINT)
                );
                // An endpoint that is more particular than the TLS is an exception from it, and the operator's variables
                // are not the program's misuse.
                if chosen.origin.is_variable() || chosen.origin.is_own() && !origin.is_own() {
                    self.report.warn(text);
                    return Ok(None);
                }
                Err(Error::config(text))
            }
            (Scheme::Https, Some(tls)) => {
                self.understand(signal, &options::TLS, "as set", origin);
                Ok(Some(tls))
            }
            (Scheme::Https, None) => Ok(Some(self.tls_of_variables(signal))),
        }
    }

    fn tls_of_variables(&mut self, signal: Signal) -> Tls {
        let mut tls = Tls::new();
        if let Some((path, name)) = self.file(signal, &options::CERTIFICATE) {
            tls = tls.with_ca_file_named(name, path);
        }
        let certificate = self.file(signal, &options::CLIENT_CERTIFICATE);
        let key = self.file(signal, &options::CLIENT_KEY);
        match (certificate, key) {
            (Some(certificate), Some(key)) => {
                tls.with_client_certificate_files_named((certificate.1, certificate.0), (key.1, key.0))
            }
            (Some((_, name)), None) => {
                let other = options::variable(None, options::CLIENT_KEY.variable);
                self.report.refuse(format!(
                    "{name}: a certificate is presented with its key alone; set {other} too"
                ));
                tls
            }
            (None, Some((_, name))) => {
                let other = options::variable(None, options::CLIENT_CERTIFICATE.variable);
                self.report.refuse(format!(
                    "{name}: a key is of use with its certificate alone; set {other} too"
                ));
                tls
            }
            (None, None) => tls,
        }
    }

    /// The path of a file, and the variable that names it.
    fn file(&mut self, signal: Signal, setting: &Setting) -> Option<(String, String)> {
        let (path, origin) = self.pick(signal, |options| options.file(setting));
        let path = path?;
        self.understand(signal, setting, path, origin);
        Some((path.into(), origin.name(setting)))
    }
}
