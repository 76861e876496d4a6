using System.Globalization;
using Npgsql;

namespace GpuTasks.SystemTests;

/// <summary>A PostgreSQL server of a test's own, durable, that can be killed, frozen and started again.</summary>
internal sealed class PostgresServer : IAsyncDisposable
{
    private const string Programs = "/usr/lib/postgresql/15/bin";
    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(2);
    private readonly string folder = Directory.CreateTempSubdirectory("gputasks-pg-").FullName;
    private readonly int port = Machine.FreePort();

    public string ConnectionString => new NpgsqlConnectionStringBuilder { Host = "127.0.0.1", Port = port, Username = "gputasks", Password = "faults", Database = "postgres" }.ConnectionString;

    private string Data => Path.Combine(folder, "data");

    public static async Task<PostgresServer> StartAsync()
    {
        var server = new PostgresServer();
        var password = Path.Combine(server.folder, "password");
        await File.WriteAllTextAsync(password, "faults\n");
        if (Environment.UserName == "root")
        {
            await Machine.RunAsync("chown", ["-R", "postgres", server.folder], Patience);
        }

        await server.RunAsync("initdb", "-D", server.Data, "-U", "gputasks", "--pwfile", password, "-A", "scram-sha-256", "-E", "UTF8", "--locale", "C.UTF-8", "-N");
        await server.StartAgainAsync();
        return server;
    }

    public Task StartAgainAsync() => RunAsync(
        "pg_ctl", "-D", Data, "-l", Path.Combine(folder, "log"), "-w", "-t", "90", "start", "-o",
        $"-p {port.ToString(CultureInfo.InvariantCulture)} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c max_connections=60");

    /// <summary>kill -9 of the server and of every process it made.</summary>
    public async Task KillAsync()
    {
        var processes = Processes();
        await SignalAsync("-KILL", processes);
        await Eventually.ComesAsync("the end of all server processes", Patience, () => Task.FromResult(processes.Count(IsThere)), left => left == 0);

        // Where nobody looks after orphans they stay zombies, which the next start would take for a living server.
        File.Delete(Path.Combine(Data, "postmaster.pid"));
    }

    /// <summary>Stops the whole server where it is: connections stay open and nothing answers.</summary>
    public Task FreezeAsync() => SignalAsync("-STOP", Processes());

    public Task ThawAsync() => SignalAsync("-CONT", Processes());

    public async ValueTask DisposeAsync()
    {
        if (File.Exists(Path.Combine(Data, "postmaster.pid")))
        {
            await ThawAsync();
            await KillAsync();
        }

        Directory.Delete(folder, recursive: true);
    }

    // A process that has ended but whose parent has not looked yet is no process any more.
    private static bool IsThere(int process) =>
        StatusOf(process) is { } status && !status.Contains("State:\tZ", StringComparison.Ordinal) && !status.Contains("State:\tX", StringComparison.Ordinal);

    private static string? StatusOf(int process)
    {
        try
        {
            return File.ReadAllText($"/proc/{process}/status");
        }
        catch (IOException)
        {
            return null;
        }
    }

    private static async Task SignalAsync(string signal, IEnumerable<int> processes) =>
        await Machine.RunAsync("kill", [signal, .. processes.Select(process => process.ToString(CultureInfo.InvariantCulture))], Patience);

    /// <summary>The first process, which makes the others, comes first.</summary>
    private List<int> Processes()
    {
        var first = int.Parse(File.ReadLines(Path.Combine(Data, "postmaster.pid")).First(), CultureInfo.InvariantCulture);
        var parent = $"PPid:\t{first}\n";
        var all = Directory.EnumerateDirectories("/proc").Select(path => int.TryParse(Path.GetFileName(path), CultureInfo.InvariantCulture, out var id) ? id : 0);
        return [first, .. all.Where(id => id > 0 && StatusOf(id)?.Contains(parent, StringComparison.Ordinal) == true)];
    }

    private async Task RunAsync(string program, params string[] arguments)
    {
        program = Path.Combine(Programs, program);
        // Its own user may not enter the folder this runs in. Nothing may hold the pipe of the output open.
        string[] command = ["-c", "\"$@\" >>\"$0\" 2>&1 </dev/null", Path.Combine(folder, "output"), program, .. arguments];
        var (code, output) = Environment.UserName == "root"
            ? await Machine.RunAsync("runuser", ["-u", "postgres", "--", "/bin/sh", .. command], Patience, folder: "/")
            : await Machine.RunAsync("/bin/sh", command, Patience, folder: "/");
        if (code != 0)
        {
            throw new InvalidOperationException($"{program}: {output}{await File.ReadAllTextAsync(Path.Combine(folder, "output"))}");
        }
    }
}
