using System.Runtime.CompilerServices;
using GpuTasks.Cards.Nvml;
using GpuTasks.Nodes;
using GpuTasks.Tests.Containers;
using Microsoft.Extensions.Logging.Abstractions;

namespace GpuTasks.Tests.Nvml;

/// <summary>A driver of one's own: the stub library and the text file that it answers from.</summary>
internal sealed class StubDriver : IDisposable
{
    public const ulong MiB = 1 << 20;
    private static readonly Lazy<(string Folder, string Fault)> Built = new(Build);
    private readonly TestFolder folder = new();
    private readonly List<string> lines = [];

    public StubDriver(bool old = false)
    {
        Assert.SkipWhen(Built.Value.Fault.Length > 0, Built.Value.Fault);
        Library = Path.Combine(folder.Path, NvmlLibrary.DefaultName);
        File.Copy(Path.Combine(Built.Value.Folder, old ? "old.so" : "new.so"), Library); // Its own copy, so that each test has a driver of its own.
        Set("driver 580.95.05 13000");
    }

    public string Library { get; }

    /// <summary>Identity of the n-th card that <see cref="Card"/> makes.</summary>
    public static string Uuid(int index) => $"GPU-00000000-0000-0000-0000-{index:d12}";

    public static string Card(int index, string name = "Tesla T4", ulong totalMiB = 15_360, ulong reservedMiB = 300, ulong usedMiB = 3, int mig = -1, int numa = 0, int action = 0, int throttle = 0) =>
        FormattableString.Invariant($"card {Uuid(index)} 00000000:{index + 1:X2}:00.0 {totalMiB * MiB} {reservedMiB * MiB} {usedMiB * MiB} 37 54 61250 {mig} {numa} {action} {throttle} {name}");

    public static string Process(string uuid, int pid, ulong usedMiB, char kind = 'C') => FormattableString.Invariant($"proc {uuid} {pid} {usedMiB * MiB} {kind}");

    /// <summary>Adds records.</summary>
    public void Set(params string[] records)
    {
        lines.AddRange(records);
        Save();
    }

    /// <summary>Takes records with this beginning away and adds others in the same moment.</summary>
    public void Replace(string beginning, params string[] records)
    {
        lines.RemoveAll(line => line.StartsWith(beginning, StringComparison.Ordinal));
        Set(records);
    }

    public NvmlCards Open(Func<NvmlSettings, NvmlSettings>? change = null)
    {
        var settings = new NvmlSettings
        {
            LibraryPath = Library,
            SamplePeriod = TimeSpan.FromMilliseconds(50),
            HangAfter = TimeSpan.FromSeconds(6), // Longer than a busy machine holds up a driver that does not hang.
            RetryPeriod = TimeSpan.FromMilliseconds(100),
        };
        var cards = new NvmlCards(change?.Invoke(settings) ?? settings, TimeProvider.System, NullLogger<NvmlCards>.Instance);
        Assert.True(cards.WaitForFirst(TimeSpan.FromSeconds(20)), "the driver is read");
        return cards;
    }

    public static async Task<CardReport> UntilAsync(NvmlCards cards, string uuid, Func<CardReport, bool> condition, string what)
    {
        await AgentHarness.UntilAsync(() => cards.Cards.Any(card => card.Uuid == uuid && condition(card)), what, 20);
        return cards.Cards.Single(card => card.Uuid == uuid);
    }

    public void Dispose() => folder.Dispose();

    private void Save()
    {
        File.WriteAllLines(Library + ".new", lines);
        File.Move(Library + ".new", Library + ".state", overwrite: true);
    }

    private static (string Folder, string Fault) Build()
    {
        var source = Path.Combine(SourceFolder(), "stub.c");
        var folder = Directory.CreateTempSubdirectory("gputasks-stub-").FullName;
        AppDomain.CurrentDomain.ProcessExit += (_, _) => Directory.Delete(folder, recursive: true);
        foreach (var (name, option) in new[] { ("new.so", "-DNEW"), ("old.so", "-DOLD") })
        {
            try
            {
                using var compiler = System.Diagnostics.Process.Start(new System.Diagnostics.ProcessStartInfo("gcc", ["-shared", "-fPIC", "-O1", option, $"-Wl,-soname,{NvmlLibrary.DefaultName}", "-o", Path.Combine(folder, name), source, "-ldl"]) { RedirectStandardError = true })!;
                var said = compiler.StandardError.ReadToEnd();
                compiler.WaitForExit();
                Assert.True(compiler.ExitCode == 0, $"The stub driver does not compile: {said}");
            }
            catch (System.ComponentModel.Win32Exception)
            {
                return ("", "gcc is missing, and the stub driver is built with it.");
            }
        }

        return (folder, "");
    }

    private static string SourceFolder([CallerFilePath] string file = "") => Path.GetDirectoryName(file)!;
}
