"""script/package: both packages hold what they should, install, and run.

    package_test.py BINARY
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = None


def run(*command, **options):
    result = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert result.returncode == 0, f"{command}: {result.stdout}{result.stderr}"
    return result.stdout


class Packages(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = pathlib.Path(folder.name)
        run(str(ROOT / "script/package"), "--out", str(cls.folder), "--binary", BINARY)
        cls.version = run(BINARY, "--version").split()[1]

    def test_the_tarball_runs_with_its_own_libraries(self):
        name = f"pagemill-{self.version}-linux-x86_64"
        shutil.unpack_archive(self.folder / f"{name}.tar.gz", self.folder / "tar")
        root = self.folder / "tar" / name
        self.assertEqual(run(root / "bin/pagemill", "--version"), f"pagemill {self.version}\n")
        loaded = dict(re.findall(r"^\t(\S+) => (\S+)", run("ldd", root / "bin/pagemill"), re.M))
        for library in (root / "lib/pagemill").iterdir():
            self.assertEqual(pathlib.Path(loaded[library.name]).resolve(), library.resolve())
        outside = {name for name, path in loaded.items() if not pathlib.Path(path).resolve().is_relative_to(root.resolve())}
        self.assertLessEqual({name.split(".so")[0] for name in outside}, {"libc", "libm", "libdl", "libpthread", "librt"})
        for file in ("LICENSE", "share/doc/pagemill/serving.md", "share/pagemill/pagemill.service"):
            self.assertTrue((root / file).is_file(), file)
        self.assertEqual(len(list((root / "share/doc/pagemill/licences").iterdir())) > 3, True)

    def test_the_deb_installs_and_goes_again(self):
        deb = self.folder / f"pagemill_{self.version}_amd64.deb"
        depends = run("dpkg-deb", "--field", deb, "Depends")
        self.assertRegex(depends, r"libc6 \(>= 2\.\d+\)")
        self.assertIn("libssl3", depends)
        for package in re.split(r", ", depends.strip()):
            run("dpkg-query", "-W", package.split(" ")[0])
        root = self.folder / "root"
        if os.geteuid() != 0:  # dpkg gives files to root, which a user cannot
            run("dpkg-deb", "--extract", deb, root)
            self.assertEqual(run(root / "usr/bin/pagemill", "--version"), f"pagemill {self.version}\n")
            return
        for folder in ("var/lib/dpkg/info", "var/lib/dpkg/updates"):
            (root / folder).mkdir(parents=True)
        (root / "var/lib/dpkg/status").touch()
        # Into an empty root: its scripts have nothing to run there, and what it depends on is the machine's.
        dpkg = ["dpkg", f"--root={root}", "--force-depends", "--force-script-chrootless", "--force-not-root", "--force-bad-path", "--log=/dev/null"]
        environment = {**os.environ, "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"}
        run(*dpkg, "--install", deb, env=environment)
        self.assertEqual(run(root / "usr/bin/pagemill", "--version"), f"pagemill {self.version}\n")
        self.assertIn("_pagemill", (root / "usr/share/bash-completion/completions/pagemill").read_text())
        unit = (root / "lib/systemd/system/pagemill.service").read_text()
        config = re.search(r"--config (\S+)", unit).group(1)
        self.assertTrue((root / config.lstrip("/")).is_file())
        run(*dpkg, "--purge", "pagemill", env=environment)
        left = [str(path.relative_to(root)) for path in root.rglob("*") if path.is_file() and "var/lib/dpkg" not in str(path)]
        self.assertEqual(left, [])

    def test_the_configuration_and_the_unit_are_valid(self):
        # The file as it is shipped gets as far as its model, which is not there.
        result = subprocess.run([BINARY, "serve", "--config", ROOT / "packaging/serve.yaml", "--port", "0"], capture_output=True, text=True, check=False)
        self.assertEqual(result.returncode, 1)
        self.assertIn("/var/lib/pagemill/model.gguf", result.stderr)
        verify = shutil.which("systemd-analyze")
        if verify:
            unit = self.folder / "pagemill.service"
            unit.write_text((ROOT / "packaging/pagemill.service").read_text().replace("/usr/bin/pagemill", BINARY))
            self.assertEqual(subprocess.run([verify, "verify", unit], capture_output=True, text=True, check=False).stderr.replace(
                "Failed to create user instance, ignoring.", "").strip(), "")


if __name__ == "__main__":
    BINARY = os.path.abspath(sys.argv.pop(1))
    unittest.main(verbosity=2)
