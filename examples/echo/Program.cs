using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Runtime.InteropServices;
using GpuTasks.Echo;

if (args is [Modes.BombArgument])
{
    await Modes.BombAsync();
}

var sinceStart = Stopwatch.StartNew();
var ignoreTerm = false;
var ready = true;

using var onTerm = PosixSignalRegistration.Create(PosixSignal.SIGTERM, signal =>
{
    signal.Cancel = true;
    Console.WriteLine(Volatile.Read(ref ignoreTerm) ? "SIGTERM ignored" : "SIGTERM: leaving");
    if (!Volatile.Read(ref ignoreTerm))
    {
        Native.ExitNow(0);
    }
});

if (Settings.ExitAtStart is { } code)
{
    Console.WriteLine($"Leaving at once with code {code}");
    return code;
}

if (Settings.NeverListen)
{
    Console.WriteLine("Not listening, as asked");
    await Task.Delay(Timeout.Infinite);
}

await Task.Delay(Settings.ListenAfter);

// The empty builder brings no configuration files and no file watchers, which in an image would watch the whole root.
var builder = WebApplication.CreateEmptyBuilder(new WebApplicationOptions { ContentRootPath = "/" });
builder.WebHost.UseKestrelCore().ConfigureKestrel(kestrel =>
{
    kestrel.Listen(IPAddress.Parse(Settings.ListenOn), Settings.Port);
    kestrel.Limits.MaxRequestBodySize = null;
    kestrel.Limits.MinRequestBodyDataRate = null;
    kestrel.Limits.MinResponseDataRate = null;
    // A long run sends nothing for hours; that must not close the connection.
    kestrel.Limits.KeepAliveTimeout = TimeSpan.FromHours(25);
});

var app = builder.Build();
app.Run(http => http.Request.Headers["x-fc-control-path"] == "/http-invoke" ? HandedOnAsync(http) : (http.Request.Method, http.Request.Path.Value) switch
{
    ("POST", "/invoke") => InvokeAsync(http),
    ("POST", "/initialize") => HookAsync(http, "Initialize", Settings.InitializeTakes, Settings.InitializeStatus),
    ("GET", "/pre-stop") => HookAsync(http, "PreStop", Settings.PreStopTakes, Settings.PreStopStatus),
    ("GET", "/ready") => AnswerAsync(http, Volatile.Read(ref ready) && sinceStart.Elapsed >= Settings.ReadyAfter ? 200 : 503),
    _ => AnswerAsync(http, 404),
});
await app.StartAsync();
Console.WriteLine($"Listening on {Settings.ListenOn}:{Settings.Port}");
await Task.Delay(Timeout.Infinite);
return 0;

async Task InvokeAsync(HttpContext http)
{
    var id = Calls.RequestId(http.Request);
    Console.WriteLine($"FC Invoke Start RequestId: {id}");
    // Printed before the answer leaves, so that the line still belongs to this run for whoever reads the log by runs.
    using var trace = Calls.Follow(http.Request);
    http.Response.OnStarting(() =>
    {
        // Before the answer leaves: who has it may start the next run at once.
        trace?.Dispose();
        Console.WriteLine($"FC Invoke End RequestId: {id}");
        return Task.CompletedTask;
    });
    Calls.Count(http.Request);
    using var body = new MemoryStream();
    await http.Request.Body.CopyToAsync(body);
    await Modes.RunAsync(http, body.ToArray(), () => Volatile.Write(ref ignoreTerm, true), () => Volatile.Write(ref ready, false));
}

// A request of an HTTP trigger: told back as it comes, with the status that the query asks for; README.md says what else can be asked.
static async Task HandedOnAsync(HttpContext http)
{
    http.Response.StatusCode = int.TryParse(http.Request.Query["status"], out var status) && status is >= 200 and < 600 ? status : 200;
    http.Response.ContentType = http.Request.ContentType ?? "application/octet-stream";
    http.Response.Headers["x-echo-method"] = http.Request.Method;
    http.Response.Headers["x-echo-target"] = http.Request.Path.ToUriComponent() + http.Request.QueryString;
    http.Response.Headers["x-echo-base-path"] = http.Request.Headers["x-fc-base-path"];
    http.Response.Headers.SetCookie = new[] { "a=1", "b=2" };
    if (http.Request.Query["count"].Count > 0)
    {
        var buffer = new byte[65536];
        long counted = 0;
        while (await http.Request.Body.ReadAsync(buffer) is > 0 and var got)
        {
            counted += got;
        }

        await http.Response.WriteAsync(counted.ToString(CultureInfo.InvariantCulture));
        return;
    }

    // The head leaves before anything of the body has come.
    await http.Response.StartAsync();
    await http.Response.Body.FlushAsync();
    for (var left = long.TryParse(http.Request.Query["bytes"], out var bytes) ? bytes : 0; left > 0; left -= 65536)
    {
        await http.Response.Body.WriteAsync(new byte[Math.Min(left, 65536)]);
    }

    await http.Request.Body.CopyToAsync(http.Response.Body);
    if (http.Request.Query["crash"].Count > 0)
    {
        Native.ExitNow(1);
    }
}

static async Task HookAsync(HttpContext http, string name, TimeSpan takes, int status)
{
    var id = Calls.RequestId(http.Request);
    Console.WriteLine($"FC {name} Start RequestId: {id}");
    await Task.Delay(takes);
    Console.WriteLine($"FC {name} End RequestId: {id}");
    await AnswerAsync(http, status);
}

static Task AnswerAsync(HttpContext http, int status)
{
    http.Response.StatusCode = status;
    http.Response.ContentLength = 0;
    return Task.CompletedTask;
}
