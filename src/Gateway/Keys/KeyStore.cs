using Microsoft.Extensions.Options;

namespace GpuTasks.Gateway.Keys;

/// <summary>The keys as last read without fault, and the file they come from.</summary>
internal sealed class KeyStore(IOptions<GatewayOptions> options)
{
    private readonly string path = options.Value.KeysFile;
    private volatile KeyRing? current;
    private string? stamp;

    /// <summary>The keys in force. Whoever reads it twice may see two different readings.</summary>
    /// <exception cref="InvalidOperationException">The first reading failed; the options' validation has told why.</exception>
    public KeyRing Current => current ?? LoadFirst();

    /// <summary>Reads the file; null and at least one fault if it cannot be used.</summary>
    public static KeyRing? Read(string path, List<string> faults)
    {
        try
        {
            return KeyRing.Parse(File.ReadAllText(path), faults);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException or NotSupportedException)
        {
            faults.Add($"it cannot be read: {e.Message}");
            return null;
        }
    }

    /// <summary>Takes a changed file into use. A faulty one changes nothing.</summary>
    /// <param name="faults">What is wrong with the new text.</param>
    /// <returns>True if the file had changed since the last call.</returns>
    public bool ReloadIfChanged(List<string> faults)
    {
        var seen = Stamp();
        if (seen == stamp)
        {
            return false;
        }

        var first = stamp is null;
        stamp = seen;
        if (Read(path, faults) is { } ring)
        {
            current = ring;
        }

        return !first;
    }

    private KeyRing LoadFirst()
    {
        var faults = new List<string>();
        return current = Read(path, faults) ?? throw new InvalidOperationException($"Keys file '{path}': {string.Join("; ", faults)}");
    }

    private string Stamp()
    {
        var file = new FileInfo(path);
        return file.Exists ? $"{file.LastWriteTimeUtc.Ticks}/{file.Length}/{file.LinkTarget}" : "none";
    }
}

/// <summary>Looks at the keys file every few seconds: watching by events misses replaced links and mounted secrets.</summary>
internal sealed partial class KeyReloader(KeyStore keys, TimeProvider clock, ILogger<KeyReloader> logger) : BackgroundService
{
    private static readonly TimeSpan Pause = TimeSpan.FromSeconds(5);

    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        using var timer = new PeriodicTimer(Pause, clock);
        do
        {
            var faults = new List<string>();
            if (keys.ReloadIfChanged(faults))
            {
                if (faults.Count == 0)
                {
                    LogReloaded();
                }
                else
                {
                    LogFaulty(string.Join("; ", faults));
                }
            }
        }
        while (await timer.WaitForNextTickAsync(stoppingToken));
    }

    [LoggerMessage(Level = LogLevel.Information, Message = "Keys file changed; the new keys are in force")]
    private partial void LogReloaded();

    [LoggerMessage(Level = LogLevel.Error, Message = "Keys file changed but cannot be used, the earlier keys stay in force: {Faults}")]
    private partial void LogFaulty(string faults);
}
