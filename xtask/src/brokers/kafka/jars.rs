//! Kafka's published jars, one folder for each version.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::brokers::{home, install};

/// The logging facade's simplest backend, which writes to standard error.
const SLF4J: &str = "1.7.36";

fn folder(version: &str) -> PathBuf {
    home().join("jars").join(format!("kafka-{version}"))
}

pub(super) fn class_path(version: &str) -> OsString {
    folder(version).join("*").into_os_string()
}

/// Fetches the jars of a version with Maven unless they are there.
pub(super) fn fetch(version: &str) -> Result<(), String> {
    let folder = folder(version);
    if folder.is_dir() {
        return Ok(());
    }
    let maven = install::program("mvn", "maven")?;
    let new = folder.with_file_name(format!("new-{}", std::process::id()));
    let failed = |error: std::io::Error| format!("{}: {error}", new.display());
    fs::create_dir_all(&new).map_err(failed)?;
    let pom = new.join("pom.xml");
    fs::write(&pom, project(version)).map_err(failed)?;
    let mut command = Command::new(maven);
    command
        .args(["-q", "-B", "-Dstyle.color=never", "-f"])
        .arg(&pom)
        .arg("dependency:copy-dependencies");
    command.arg(format!("-DoutputDirectory={}", new.display())).arg("-DincludeScope=runtime");
    let status = command.stdin(Stdio::null()).stdout(std::io::stderr()).status();
    if !status.map_err(failed)?.success() {
        fs::remove_dir_all(&new).map_err(failed)?;
        return Err(format!(
            "Kafka {version} could not be fetched from Maven Central; see Maven's output above"
        ));
    }
    match fs::rename(&new, &folder) {
        // Somebody else was faster.
        Err(_) if folder.is_dir() => fs::remove_dir_all(&new).map_err(failed),
        renamed => renamed.map_err(failed),
    }
}

fn project(version: &str) -> String {
    let dependency = |group: &str, artifact: &str, version: &str| {
        format!(
            "    <dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId>\
             <version>{version}</version><exclusions><exclusion><groupId>org.slf4j</groupId>\
             <artifactId>slf4j-reload4j</artifactId></exclusion></exclusions></dependency>\n"
        )
    };
    format!(
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\">\n\
         \x20 <modelVersion>4.0.0</modelVersion>\n\
         \x20 <groupId>local</groupId><artifactId>kafka</artifactId><version>1</version>\n\
         \x20 <packaging>pom</packaging>\n\
         \x20 <dependencies>\n{}{}{}  </dependencies>\n</project>\n",
        dependency("org.apache.kafka", "kafka_2.13", version),
        dependency("org.apache.kafka", "kafka-tools", version),
        dependency("org.slf4j", "slf4j-simple", SLF4J),
    )
}

/// Whether a version has a class. The names in a jar are not compressed.
pub(super) fn has_class(version: &str, class: &str) -> Result<bool, String> {
    let folder = folder(version);
    let name = format!("{}.class", class.replace('.', "/"));
    for jar in [format!("kafka-tools-{version}.jar"), format!("kafka_2.13-{version}.jar")] {
        let jar = folder.join(jar);
        let bytes = fs::read(&jar).map_err(|error| format!("{}: {error}", jar.display()))?;
        if bytes.windows(name.len()).any(|window| window == name.as_bytes()) {
            return Ok(true);
        }
    }
    Ok(false)
}
