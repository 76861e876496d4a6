using System.Diagnostics;
using System.Globalization;

namespace GpuTasks.SystemTests;

/// <summary>A PostgreSQL server of one's own, to be killed, frozen and started again.</summary>
internal sealed class PostgresServer : IAsyncDisposable
{
    private const string Programs = "/usr/lib/postgresql/15/bin";
    private const string Password = "cluster-tests";
    private readonly string folder;
    private readonly string address;
    private readonly int port;

    private PostgresServer(string folder, string address, int port)
    {
        this.folder = folder;
        this.address = address;
        this.port = port;
    }

    /// <summary>For Npgsql.</summary>
    public string ConnectionString => string.Create(CultureInfo.InvariantCulture, $"Host={address};Port={port};Username=gputasks;Password={Password};Database=postgres");

    /// <summary>Makes a database cluster in a new folder and starts it.</summary>
    public static async Task<PostgresServer> MakeAsync(string address, int port, string name = "gputasks-postgres-server-")
    {
        // Not below the tests' own folder, which PostgreSQL's user may not be able to enter.
        var folder = Directory.CreateTempSubdirectory(name).FullName;
        var server = new PostgresServer(folder, address, port);
        await File.WriteAllTextAsync(Path.Combine(folder, "password"), Password);
        await File.WriteAllTextAsync(Path.Combine(folder, "owner"), Environment.ProcessId.ToString(CultureInfo.InvariantCulture));
        await Machine.RunAsync("chown", ["-R", "postgres", folder], TimeSpan.FromSeconds(10));
        await AsPostgresAsync("initdb", "-D", server.Data, "-U", "gputasks", "--pwfile", Path.Combine(folder, "password"), "-A", "scram-sha-256", "-E", "UTF8", "--locale", "C.UTF-8", "-N");
        await File.AppendAllTextAsync(Path.Combine(server.Data, "pg_hba.conf"), "host all all 10.213.0.0/16 scram-sha-256\n");
        await server.StartAsync();
        return server;
    }

    /// <summary>Starts it. What a killed one left is waited out.</summary>
    public async Task StartAsync()
    {
        for (var patience = DateTime.UtcNow.AddSeconds(40); ;)
        {
            try
            {
                // Nothing needs to outlive the machine, only the process: the kernel keeps what was written.
                await AsPostgresAsync("pg_ctl", "-D", Data, "-l", Path.Combine(folder, "log"), "-w", "-t", "60", "start", "-o", string.Create(
                    CultureInfo.InvariantCulture, $"-p {port} -c listen_addresses={address} -c unix_socket_directories= -c fsync=off -c max_connections=300"));
                return;
            }
            catch (InvalidOperationException) when (DateTime.UtcNow < patience)
            {
                await Task.Delay(500);
            }
        }
    }

    /// <summary>kill -9 of the server. Its children notice and go.</summary>
    public async Task KillAsync()
    {
        var main = MainProcess();
        var all = Children(main);
        Signals.Send(main, Signals.Kill);
        foreach (var child in all)
        {
            Signals.Send(child, Signals.Kill);
        }

        for (var patience = DateTime.UtcNow.AddSeconds(20); DateTime.UtcNow < patience && Signals.Lives(main);)
        {
            await Task.Delay(50);
        }
    }

    /// <summary>Freezes the server and every connection's process, or lets them go on.</summary>
    public void Freeze(bool frozen)
    {
        var main = MainProcess();
        Signals.Send(main, frozen ? Signals.Stop : Signals.Continue);
        foreach (var child in Children(main))
        {
            Signals.Send(child, frozen ? Signals.Stop : Signals.Continue);
        }
    }

    public async ValueTask DisposeAsync()
    {
        try
        {
            Freeze(frozen: false);
            await AsPostgresAsync("pg_ctl", "-D", Data, "-m", "immediate", "-w", "stop");
        }
        catch (Exception e) when (e is InvalidOperationException or IOException)
        {
            // It was not running.
        }

        Directory.Delete(folder, recursive: true);
    }

    private string Data => Path.Combine(folder, "data");

    private int MainProcess() => int.Parse(File.ReadLines(Path.Combine(Data, "postmaster.pid")).First(), CultureInfo.InvariantCulture);

    private static List<int> Children(int parent)
    {
        var found = new List<int>();
        foreach (var process in Process.GetProcesses())
        {
            using (process)
            {
                try
                {
                    // The name may hold anything, so the fields are counted from behind its closing bracket.
                    var stat = File.ReadAllText($"/proc/{process.Id}/stat");
                    if (int.Parse(stat[(stat.LastIndexOf(')') + 2)..].Split(' ')[1], CultureInfo.InvariantCulture) == parent)
                    {
                        found.Add(process.Id);
                    }
                }
                catch (IOException)
                {
                    // It ended meanwhile.
                }
            }
        }

        return found;
    }

    private static async Task AsPostgresAsync(string program, params string[] arguments)
    {
        var (code, output) = await Machine.RunAsync(
            "runuser", ["-u", "postgres", "--", "sh", "-c", "exec \"$@\" </dev/null >/dev/null 2>&1", "sh", Path.Combine(Programs, program), .. arguments], TimeSpan.FromMinutes(2), "/");
        if (code != 0)
        {
            throw new InvalidOperationException($"{program} ended with {code}: {output}");
        }
    }
}
