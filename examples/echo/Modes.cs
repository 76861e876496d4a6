using System.Buffers;
using System.Collections;
using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Text;
using System.Text.Json;

namespace GpuTasks.Echo;

/// <summary>What <c>POST /invoke</c> can be asked to do; README.md says how.</summary>
internal static class Modes
{
    /// <summary>With it as its only argument the program is one of many.</summary>
    internal const string BombArgument = "bomb";

    private const int SigKill = 9;

    internal static Task RunAsync(HttpContext http, byte[] body, Action ignoreTerm, Action becomeUnready)
    {
        var ask = Ask.Parse(body);
        return ask.Text("mode", "echo") switch
        {
            "echo" => EchoAsync(http, body),
            "count" => JsonAsync(http, json => json.WriteBoolean("counted", true)),
            "clock" => JsonAsync(http, json => json.WriteNumber("at", Stopwatch.GetTimestamp())),
            "sleep" => SleepAsync(http, ask),
            "ignore-term" => IgnoreTermAsync(http, ask, ignoreTerm),
            "unready" => UnreadyAsync(http, becomeUnready),
            "fail" => FailAsync(http, ask),
            "flaky" => FlakyAsync(http, ask),
            "crash" => CrashAsync(ask),
            "disconnect" => DisconnectAsync(http, ask),
            "oom" => AllocateAsync(http, ask),
            "flood" => FloodAsync(http, ask),
            "bomb" => BombAsync(),
            "answer" => AnswerAsync(http, ask),
            "env" => EnvironmentAsync(http),
            var other => FailAsync(http, 400, null, $"There is no mode '{other}'."),
        };
    }

    private static async Task EchoAsync(HttpContext http, byte[] body)
    {
        http.Response.ContentType = http.Request.ContentType ?? "application/octet-stream";
        http.Response.ContentLength = body.Length;
        await http.Response.Body.WriteAsync(body);
    }

    private static async Task SleepAsync(HttpContext http, Ask ask)
    {
        var seconds = ask.Number("seconds", 1);
        await Task.Delay(TimeSpan.FromSeconds(seconds));
        await JsonAsync(http, json => json.WriteNumber("slept", seconds));
    }

    private static Task IgnoreTermAsync(HttpContext http, Ask ask, Action ignoreTerm)
    {
        ignoreTerm();
        Console.WriteLine("SIGTERM will be ignored");
        return SleepAsync(http, ask);
    }

    private static Task UnreadyAsync(HttpContext http, Action becomeUnready)
    {
        becomeUnready();
        return JsonAsync(http, json => json.WriteBoolean("ready", false));
    }

    private static Task FailAsync(HttpContext http, Ask ask)
    {
        var fcStatus = ask.Text("fcStatus", "");
        var status = (int)ask.Number("status", fcStatus.Length > 0 ? 200 : 500);
        return FailAsync(http, status, fcStatus, ask.Text("message", "It failed because it was asked to."));
    }

    private static async Task FailAsync(HttpContext http, int status, string? fcStatus, string message)
    {
        http.Response.StatusCode = status;
        if (!string.IsNullOrEmpty(fcStatus))
        {
            http.Response.Headers["x-fc-status"] = fcStatus;
        }

        await JsonAsync(http, json => json.WriteString("errorMessage", message));
    }

    private static Task FlakyAsync(HttpContext http, Ask ask)
    {
        var attempt = Calls.Attempt(http.Request);
        return attempt <= ask.Number("failures", 1)
            ? FailAsync(http, 500, null, $"Attempt {attempt} fails because it was asked to.")
            : JsonAsync(http, json => json.WriteNumber("attempt", attempt));
    }

    private static async Task CrashAsync(Ask ask)
    {
        await Task.Delay(TimeSpan.FromSeconds(ask.Number("afterSeconds", 0)));
        if (ask.Number("signal", 0) is var signal and > 0)
        {
            _ = Native.Kill(Environment.ProcessId, (int)signal);
            // The signal may be one that ends nothing.
            await Task.Delay(TimeSpan.FromSeconds(1));
            _ = Native.Kill(Environment.ProcessId, SigKill);
        }

        Native.ExitNow((int)ask.Number("exitCode", 1));
    }

    private static async Task DisconnectAsync(HttpContext http, Ask ask)
    {
        await Task.Delay(TimeSpan.FromSeconds(ask.Number("afterSeconds", 0)));
        if (ask.Number("bytes", 0) is var bytes and > 0)
        {
            // A promise of more than is sent, so that the answer is seen to be cut.
            http.Response.ContentLength = (long)bytes * 2;
            await http.Response.Body.WriteAsync(new byte[(int)bytes]);
            await http.Response.Body.FlushAsync();
        }

        http.Abort();
    }

    private static unsafe Task AllocateAsync(HttpContext http, Ask ask)
    {
        const int MiB = 1024 * 1024;
        var limit = ask.Number("mib", double.MaxValue);
        var taken = 0;
        for (; taken < limit; taken++)
        {
            // Memory that is only reserved costs nothing; writing makes it real.
            NativeMemory.Fill(NativeMemory.Alloc(MiB), MiB, 0x5a);
        }

        return JsonAsync(http, json => json.WriteNumber("mib", taken));
    }

    /// <summary>Starts this program again and again, as each of those does in turn, until nothing more can be started, and goes on trying.</summary>
    internal static async Task BombAsync()
    {
        while (true)
        {
            try
            {
                using var one = Process.Start(Environment.ProcessPath!, [BombArgument]);
                using var other = Process.Start(Environment.ProcessPath!, [BombArgument]);
            }
            catch (Exception e) when (e is System.ComponentModel.Win32Exception or OutOfMemoryException)
            {
                // That was the limit.
            }

            await Task.Delay(20);
        }
    }

    private static async Task FloodAsync(HttpContext http, Ask ask)
    {
        var bytes = (long)ask.Number("bytes", 1_000_000);
        var lineBytes = (int)Math.Max(16, ask.Number("lineBytes", 100));
        var both = ask.Text("to", "stdout") == "both";
        await using var stdout = Console.OpenStandardOutput();
        await using var stderr = Console.OpenStandardError();
        long printed = 0;
        for (long line = 0; printed < bytes; line++)
        {
            var text = line.ToString("D12", CultureInfo.InvariantCulture).PadRight(lineBytes - 1, 'x') + "\n";
            // Written synchronously, so that the order over both streams is the order of the numbers.
            (both && line % 2 == 1 ? stderr : stdout).Write(Encoding.ASCII.GetBytes(text));
            printed += text.Length;
        }

        await JsonAsync(http, json => json.WriteNumber("printed", printed));
    }

    private static async Task AnswerAsync(HttpContext http, Ask ask)
    {
        var bytes = (long)ask.Number("bytes", 0);
        http.Response.StatusCode = (int)ask.Number("status", 200);
        if (ask.Text("contentType", "application/octet-stream") is { Length: > 0 } contentType)
        {
            http.Response.ContentType = contentType;
        }

        if (bytes == 0)
        {
            return;
        }

        // Without a length the server answers in chunks.
        http.Response.ContentLength = ask.Text("framing", "length") == "chunked" ? null : bytes;
        var block = new byte[65536];
        Array.Fill(block, (byte)'a');
        for (long sent = 0; sent < bytes; sent += block.Length)
        {
            await http.Response.Body.WriteAsync(block.AsMemory(0, (int)Math.Min(block.Length, bytes - sent)));
        }
    }

    private static Task EnvironmentAsync(HttpContext http) => JsonAsync(http, json =>
    {
        json.WriteNumber("pid", Environment.ProcessId);
        json.WriteNumber("uid", Native.UserId());
        json.WriteString("workingDirectory", Environment.CurrentDirectory);
        json.WriteStartArray("arguments");
        foreach (var argument in Environment.GetCommandLineArgs())
        {
            json.WriteStringValue(argument);
        }

        json.WriteEndArray();
        json.WriteStartObject("environment");
        foreach (DictionaryEntry variable in Environment.GetEnvironmentVariables())
        {
            json.WriteString((string)variable.Key, (string?)variable.Value);
        }

        json.WriteEndObject();
        json.WriteString("method", http.Request.Method);
        json.WriteString("path", http.Request.Path.Value + http.Request.QueryString.Value);
        json.WriteStartObject("headers");
        foreach (var (name, values) in http.Request.Headers)
        {
            json.WriteString(name.ToLowerInvariant(), values.ToString());
        }

        json.WriteEndObject();
    });

    private static async Task JsonAsync(HttpContext http, Action<Utf8JsonWriter> write)
    {
        var buffer = new ArrayBufferWriter<byte>();
        await using (var json = new Utf8JsonWriter(buffer))
        {
            json.WriteStartObject();
            write(json);
            json.WriteEndObject();
        }

        http.Response.ContentType = "application/json";
        http.Response.ContentLength = buffer.WrittenCount;
        await http.Response.Body.WriteAsync(buffer.WrittenMemory);
    }
}
